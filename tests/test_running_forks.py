"""Kernels forked from a warm process: the same results as plain ones, and as mortal."""

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from bpfree_common.running import engine, scratch
from bpfree_common.running.compare import differences
from bpfree_common.running.environment import environment
from bpfree_common.running.forked import Forked, Warm, possible

pytestmark = pytest.mark.skipif(not possible(), reason="no forks here")


@pytest.fixture(scope="module")
def warm():
    """A warm process, ready; everything forked from it is gone at the end."""
    folder = scratch.open_scratch()
    server = Warm(folder, environment(1, "test-of-forks", folder))
    assert server.ready()
    yield server
    server.stop()
    subprocess.run(["rm", "-r", folder], check=True)


#: Everything by which a notebook could notice how its kernel was started.
LOOK = """
import importlib.metadata, os, random, signal, sys
import matplotlib, numpy, pandas, torch
import lightning.pytorch
from lightning.pytorch.utilities import rank_zero
from bpfree_common import Study
import matplotlib.pyplot as plt
from matplotlib import _pylab_helpers
tops = {n.partition(".")[0] for n in list(sys.modules)}
names = importlib.metadata.packages_distributions()
facts = {
    "laboratory": sorted(n for n in sys.modules if n.startswith("bpfree")),
    "distributions": sorted({d for t in tops for d in names.get(t, [])}),
    "pandas": [pandas.get_option(n) for n in ("display.max_columns", "display.width",
        "display.max_rows", "display.precision")],
    "matplotlib": {k: str(v) for k, v in sorted(matplotlib.rcParams.items())},
    "torch": [torch.get_num_threads(), torch.get_default_dtype().itemsize,
        torch.backends.cpu.get_cpu_capability()],
    "ps1": getattr(sys, "ps1", None),
    "argv": len(sys.argv), "path": sys.path, "cwd": os.getcwd(),
    "main": sys.modules["__main__"].__name__, "hash": hash("hash"),
    "environment": sorted(set(os.environ) - {"BPFREE_RUNNER", "LINES", "COLUMNS"}),
    "session": os.getsid(0) == os.getpid(),
    "signals": [str(signal.getsignal(n)).split(" at ")[0] for n in (2, 15, 17)],
    "finders": [type(f).__name__ for f in sys.meta_path],
    "random": [random.random(), numpy.random.rand(), torch.initial_seed()],
}
Path(os.environ["TINY_PIDS"], "facts.json").write_text(__import__("json").dumps(facts))
plt.plot([1, 2]);
"""


def facts(project, kind: str) -> dict:
    done = project.run("--force", "--jobs", "1", environment={"BPFREE_FORK": kind})
    assert done.returncode == 0, done.stdout
    return json.loads((project.pids / "facts.json").read_text())


def test_a_notebook_cannot_tell_a_forked_kernel_from_a_plain_one(project):
    for slug in ("one", "two", "three"):
        project.add(slug, LOOK)
    plain, kept = facts(project, "0"), project.reports.rename(project.root / "plain")
    forked = facts(project, "1")
    for one, two in zip(forked.pop("random"), plain.pop("random"), strict=True):
        assert one != two  # nobody has seeded anything
    for name, value in plain.items():
        assert forked[name] == value, name
    assert not [name for name in forked["laboratory"] if ".running" in name]
    assert differences(kept / "quick", project.reports / "quick") == []
    shown = (project.reports / "quick/three/three.ipynb").read_text()
    assert "image/png" in shown  # an open figure is shown at the end of its cell


def test_few_notebooks_start_plainly_and_more_are_forked(project):
    body = "print('parent', open(f'/proc/{os.getppid()}/cmdline').read())"
    for slug in ("one", "two", "three"):
        project.add(slug, body)
    project.run("one", "two")
    assert "running.execute" in read(project, "two")
    project.run("--force")
    assert all("running.warm" in read(project, slug) for slug in ("one", "two", "three"))
    project.run("--force", environment={"BPFREE_FORK": "0"})
    assert "running.execute" in read(project, "two")


def read(project, slug: str) -> str:
    return (project.reports / "quick" / slug / f"{slug}.ipynb").read_text()


def test_the_warm_process_has_one_thread_and_holds_nothing_of_the_laboratory(warm):
    server = psutil.Process(warm._process.pid)
    assert server.num_threads() == 1
    script = """
import sys
from bpfree_common.running import warm
before = {n for n in sys.modules if n.startswith("bpfree")}
warm.preload()
print(*({n for n in sys.modules if n.startswith("bpfree")} - before), warm.alone())
"""
    # one thread for each library, as the runner gives every process it starts
    one = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, env=one)
    assert done.stdout.split() == ["True"]


def ask(warm, kind: str, argument, **more: str) -> Forked:
    with Path(os.devnull).open("r+") as null:
        files = [null.fileno()] * 3
        return Forked(warm.address, kind, argument, dict(os.environ) | more, files)


def gone(pid: int, seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and psutil.pid_exists(pid):
        time.sleep(0.01)
    return not psutil.pid_exists(pid)


def test_a_fork_tells_its_exit_code_and_dies_with_whoever_asked(warm, tmp_path):
    nothing = ask(warm, "worker", str(tmp_path / "no such job"))
    assert nothing.wait(30) == 1
    assert nothing.poll() == 1
    kernel = ask(warm, "kernel", ["-f", str(tmp_path / "kernel.json")])
    assert kernel.poll() is None
    kernel.send_signal(signal.SIGKILL)
    assert kernel.wait(30) == -signal.SIGKILL
    other = ask(warm, "kernel", ["-f", str(tmp_path / "other.json")])
    other._connection.close()
    assert gone(other.pid)
    assert warm.ready()


def test_nonsense_and_silence_do_not_stop_the_warm_process(warm):
    import socket

    for text in (b"nonsense\n", b"", b'{"kind": "worker"'):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(warm.address)
            connection.sendall(text)
    assert ask(warm, "worker", "no such job").wait(30) == 1


def test_a_run_whose_warm_process_is_killed_says_so_and_goes_on_plainly(project):
    body = """
        import time
        if "running.warm" in open(f"/proc/{os.getppid()}/cmdline").read():
            time.sleep(600)
    """
    for slug in ("one", "two", "three"):
        project.add(slug, body)
    command = project.command("--jobs", "1")
    process = subprocess.Popen(
        command, env=project.environment(), stdout=subprocess.PIPE, text=True
    )
    while not list(project.pids.iterdir()):
        assert process.poll() is None
        time.sleep(0.05)
    [server] = [
        child
        for child in psutil.Process(process.pid).children()
        if "bpfree_common.running.warm" in child.cmdline()
    ]
    server.kill()
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert said.count("WorkerDied") == 1
    assert said.count("ok      ") == 2
    assert not project.living_kernels()


def test_forked_kernels_leave_old_or_new_but_never_half_when_all_is_killed(project):
    numbers, slugs = random.Random(2), ("one", "two", "three")
    for slug in slugs:
        project.add(slug)
    for _ in range(5):
        process = subprocess.Popen(
            project.command("--force", "--jobs", "3"),
            env=project.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(numbers.uniform(4, 9))  # the libraries are loaded in about five
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert all(gone(pid) for pid in project.living_kernels())
        for slug in slugs:
            project.report(slug)  # raises if half
    assert project.run().returncode == 0
    assert all(project.report(slug) for slug in slugs)
    assert not list((project.reports / ".staging").iterdir())


# --- nbval is the second run ------------------------------------------------------------


def repeat(project, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-q"]
    command += ["-p", "bpfree_common.running.repeat", "--nbval", "--nbval-current-env"]
    command += ["-p", "no:cacheprovider", "--nbval-cell-timeout=60", *arguments]
    again = project.root / "again"
    return subprocess.run(
        [*command, "--again", again, project.reports / "quick"],
        env=project.environment(),
        cwd=project.root,
        capture_output=True,
        text=True,
        timeout=300,
    )


def compared(project) -> list[str]:
    first, second = project.reports / "quick", project.root / "again"
    return differences(first, second, notebooks=False)


def test_nbval_executes_every_notebook_once_more_and_leaves_its_record(project):
    for slug in ("one", "two"):
        project.add(slug, "from bpfree_common import Study")  # loads the libraries
    assert project.run().returncode == 0
    assert len(list(project.pids.iterdir())) == 2
    done = repeat(project, "-n", "2", "--dist", "loadscope")
    assert done.returncode == 0, done.stdout
    assert len(list(project.pids.iterdir())) == 4
    assert compared(project) == []
    assert not project.living_kernels()
    (project.root / "again/two/record.json").unlink()
    assert len(compared(project)) == 1


def test_a_notebook_that_says_something_else_the_second_time_is_caught(project):
    project.add("calm")
    project.add("moody", "print('mood', len(os.listdir(os.environ['TINY_PIDS'])))")
    assert project.run("--jobs", "1").returncode == 0
    done = repeat(project)
    assert done.returncode == 1
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    assert len(failed) == 1
    assert "moody.ipynb::Cell 2" in failed[0]


def test_a_figure_that_differs_the_second_time_is_caught(project):
    body = """
        folder = Path(os.environ["BPFREE_RUN_DIR"], "figures")
        folder.mkdir()
        (folder / "a.png").write_text("drawn with " + os.environ.get("BPFREE_AGAIN", ""))
        if os.environ["BPFREE_SVG"]: (folder / "a.svg").write_text("drawn")
    """
    project.add("tiny", "from bpfree_common import Study\n" + textwrap.dedent(body))
    assert project.run("--figures").returncode == 0
    assert repeat(project).returncode == 0
    assert (project.root / "again/tiny/figures/a.svg").is_file()
    assert compared(project) == ["tiny: the record's figures differs"]


def test_a_kernel_that_dies_under_nbval_is_told_within_the_limit(project):
    project.add("tiny", "if 'BPFREE_AGAIN' in os.environ: os.kill(os.getpid(), 9)")
    assert project.run().returncode == 0
    done = repeat(project, "--nbval-cell-timeout=5")
    assert done.returncode == 1
    assert not project.living_kernels()


# --- saves ------------------------------------------------------------------------------


class Saves:
    """Stands in for papermill's notebook manager; counts its saves."""

    def __init__(self):
        self.count = 0

    def save(self, **_) -> None:
        self.count += 1


def test_a_running_notebook_is_saved_seldom(monkeypatch):
    now = 0.0
    monkeypatch.setattr(engine.time, "monotonic", lambda: now)
    manager = Saves()
    with engine._saving_now_and_then(manager):
        for step in range(1000):
            now = step / 100
            manager.save()
    assert manager.count == 4  # at 2, 4, 6 and 8 of its 10 seconds
    manager.save()
    assert manager.count == 5
