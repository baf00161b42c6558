"""One notebook per GPU, found without PyTorch."""

import pytest

from bpfree_common.running import runner
from bpfree_common.running.gpus import gpus, jobs_at_once, least_used
from bpfree_common.running.plan import Job


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    for name in ("CUDA_VISIBLE_DEVICES", "BPFREE_DEVICE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def twelve(tmp_path):
    for name in ["nvidiactl", "nvidia-uvm", *(f"nvidia{k}" for k in range(12))]:
        (tmp_path / name).touch()
    return tmp_path


def test_gpus_are_those_of_the_driver_in_the_order_of_their_numbers(twelve):
    assert gpus(twelve) == [str(k) for k in range(12)]


def test_without_a_driver_there_is_none(tmp_path):
    assert gpus(tmp_path) == []


def test_a_batch_system_says_which_may_be_used(twelve, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, MIG-1f")
    assert gpus(twelve) == ["3", "MIG-1f"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus(twelve) == []


def test_none_counts_where_notebooks_use_the_cpu(twelve, monkeypatch):
    monkeypatch.setenv("BPFREE_DEVICE", "cpu")
    assert gpus(twelve) == []


def test_by_default_there_are_as_many_jobs_as_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4")
    assert jobs_at_once() == 5


def test_the_next_job_takes_the_gpu_that_is_used_least():
    assert least_used(["0", "1"], []) == "0"
    assert least_used(["0", "1"], ["0"]) == "1"
    assert least_used(["0", "1"], ["0", "1", "0"]) == "1"


@pytest.mark.parametrize(
    ("known", "expected"),
    [(["2", "5"], ["2", "5", "2", "5"]), (["2"], [None] * 4), ([], [None] * 4)],
)
def test_workers_see_their_own_gpu_where_there_are_several(
    known, expected, tmp_path, monkeypatch
):
    """One GPU or none needs no word from the runner."""
    seen = []

    class Worker:
        def __init__(self, command, env, **_):
            seen.append(env.get("CUDA_VISIBLE_DEVICES"))

    monkeypatch.setattr(runner, "gpus", lambda: known)
    jobs = [Job("template", "quick", {}, "", "quick") for _ in range(4)]
    session = runner.Session(jobs[:1], tmp_path, 1, svg=False)
    try:
        monkeypatch.setattr(runner.subprocess, "Popen", Worker)
        assert all(session.start(job) for job in jobs)
    finally:
        session.running.clear()
        monkeypatch.undo()
        session.__exit__()
    assert seen == expected
