"""Every promise of the runner, and an attempt to break it."""

import ctypes
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from bpfree_common.papers import notebook
from bpfree_common.running.compare import differences


def wait_until(condition, seconds: float = 15) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


# --- refused before a kernel starts -----------------------------------------------------


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("nomber=4", "unknown parameter 'nomber': did you mean number?"),
        ("number=four", "number='four' is a str, but number takes int"),
        ("number=2.5", "number=2.5 is a float, but number takes int"),
        ("number=11", "number=11 is out of range: choose a value from 1 to 10"),
        ("word=c", "word='c' is not one of: a, b"),
        ("number", "'number' is not NAME=VALUE"),
    ],
)
def test_a_bad_parameter_is_refused_before_a_kernel_starts(project, assignment, message):
    project.add("tiny")
    done = project.run("tiny", "-p", assignment)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(project.pids.iterdir())


def test_an_unknown_notebook_is_refused_with_the_names_that_exist(project):
    project.add("tiny")
    done = project.run("tinny")
    assert done.returncode == 2
    assert "there is no notebook 'tinny': did you mean tiny?" in done.stderr


def test_a_good_parameter_reaches_the_notebook(project):
    project.add("tiny")
    assert project.run("tiny", "-p", "number=7").returncode == 0
    text = (project.reports / "custom" / "number=7" / "tiny" / "tiny.ipynb").read_text()
    assert "number 7" in text


# --- failures ---------------------------------------------------------------------------


def succeed_once(project):
    path = project.add("tiny")
    assert project.run("tiny").returncode == 0
    return path, project.report("tiny")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("import sys; sys.exit(0)", "without writing its record"),
        ("import sys; sys.exit(3)", "SystemExit"),
        ("os.kill(os.getpid(), 9)", "DeadKernelError"),
    ],
)
def test_a_failing_notebook_leaves_the_old_report_and_a_copy(project, body, message):
    path, before = succeed_once(project)
    good = path.read_text()
    project.add("tiny", body)
    done = project.run("tiny")
    assert done.returncode == 1
    assert message in done.stdout
    assert project.report("tiny") == before
    assert (project.reports / "failed" / "quick" / "tiny.ipynb").is_file()
    assert wait_until(lambda: not project.living_kernels())
    path.write_text(good)  # and the next good run removes the copy
    assert project.run("tiny", "--force").returncode == 0
    assert not (project.reports / "failed" / "quick" / "tiny.ipynb").exists()


def test_the_failing_cell_is_shown(project):
    project.add("tiny", "unlikely_name = {}['missing key']")
    done = project.run("tiny")
    assert "unlikely_name = {}['missing key']" in done.stdout
    assert "KeyError" in done.stdout


def test_a_record_of_another_notebook_is_no_proof(project):
    path = project.add("tiny")
    path.write_text(
        path.read_text().replace('\\"method\\": ', '\\"method\\": \\"x\\" + ')
    )
    done = project.run("tiny")
    assert done.returncode == 1
    assert "the record is of another notebook" in done.stdout


def test_a_cell_that_hangs_is_stopped_with_all_its_processes(project):
    body = "import subprocess\nsubprocess.Popen(['sleep', '7531'])\nwhile True: pass"
    project.add("tiny", body)
    done = project.run("tiny", "--timeout", "6")
    assert done.returncode == 1
    assert "stopped after the limit of 6 s for the whole run" in done.stdout
    assert not project.living_kernels()
    assert subprocess.run(["pgrep", "-f", "sleep 7531"], stdout=-3).returncode == 1
    assert not project.report("tiny")


def test_one_failure_does_not_hide_the_others(project):
    project.add("good")
    project.add("bad", "1 / 0")
    project.add("fine")
    done = project.run()
    assert done.returncode == 1
    assert project.report("good")
    assert project.report("fine")
    assert not project.report("bad")
    again = project.run()  # running again finishes what is missing, and only that
    assert again.returncode == 1
    assert "up to date: good, fine" in again.stdout


# --- killed at any instant --------------------------------------------------------------

#: How often a runner is killed; `BPFREE_KILLS=200` tries more often than a test run may.
KILLS = int(os.environ.get("BPFREE_KILLS", "16"))


def test_a_runner_killed_at_random_instants_leaves_old_or_new_but_never_half(project):
    path = project.add("tiny")
    numbers = random.Random(0)
    source = path.read_text()
    versions = {}  # hash of the notebook -> a comment that only this version has
    for attempt in range(KILLS):
        path.write_text(source.replace("| a number", f"| attempt {attempt}."))
        versions[notebook.content_hash(path)] = f"| attempt {attempt}."
        process = subprocess.Popen(
            project.command("tiny", "--force"),
            env=project.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(numbers.uniform(0.05, 4.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert wait_until(lambda: not project.living_kernels())
        found = project.report("tiny")  # raises if half
        if found is not None:
            executed, record = found
            assert executed["cells"][-1]["outputs"]
            text = notebook.source(executed["cells"][0])
            assert versions[record["hashes"]["notebook"]] in text
    assert project.run("tiny").returncode == 0
    assert project.report("tiny")[1]["hashes"]["notebook"] == notebook.content_hash(path)
    left = list((project.reports / ".staging").iterdir())
    assert not left, "the next run clears what killed ones left"


def test_publication_is_one_instant(tmp_path):
    """A process that publishes two versions in turn is killed a dozen times."""
    script = """
import itertools, sys
from pathlib import Path
from bpfree_common.running.publish import publish
root = Path(sys.argv[1])
for n in itertools.count():
    new = root / f"new-{n}-{sys.argv[2]}"
    new.mkdir()
    for name in ("a", "b", "c"):
        (new / name).write_text(str(n % 2) * 5000)
    publish(new, root / "final")
"""
    numbers = random.Random(1)
    for attempt in range(12):
        command = [sys.executable, "-c", script, str(tmp_path), str(attempt)]
        process = subprocess.Popen(command)
        wait_until((tmp_path / "final").exists)
        for _ in range(20):  # looks from outside, while it runs
            time.sleep(numbers.uniform(0, 0.02))
            handle = os.open(tmp_path / "final", os.O_RDONLY)
            texts = [read_at(handle, name) for name in ("a", "b", "c")]
            os.close(handle)
            assert len(set(texts) - {None}) <= 1
        process.kill()
        process.wait()
        texts = {(tmp_path / "final" / name).read_text() for name in ("a", "b", "c")}
        assert len(texts) == 1
        assert len(texts.pop()) == 5000


def read_at(folder: int, name: str) -> str | None:
    """A file of an open folder; None if the folder has been replaced and removed."""
    try:
        handle = os.open(name, os.O_RDONLY, dir_fd=folder)
        with os.fdopen(handle) as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def test_an_interrupt_stops_everything_and_says_so(project):
    project.add("tiny", "import time; time.sleep(60)")
    process = subprocess.Popen(
        project.command("tiny"),
        env=project.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a job in the background inherits an ignored SIGINT
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert wait_until(lambda: list(project.pids.iterdir()))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted" in said
    assert wait_until(lambda: not project.living_kernels())
    assert not list((project.reports / ".staging").iterdir())


# --- many at once, and nothing to do ----------------------------------------------------


def test_sixty_four_notebooks_at_eight_workers_never_collide(project):
    for n in range(64):
        project.add(f"tiny{n:02d}")
    done = project.run("--jobs", "8")
    assert done.returncode == 0, done.stdout[-2000:]
    assert all(project.report(f"tiny{n:02d}") for n in range(64))
    again = project.run("--jobs", "8")
    assert again.returncode == 0
    assert "start" not in again.stdout


def test_only_what_is_stale_runs(project):
    project.add("one")
    path = project.add("two")
    assert project.run().returncode == 0
    path.write_text(path.read_text().replace("| a number", "| any number"))
    done = project.run()
    assert "up to date: one" in done.stdout
    assert "start   two (quick; changed: notebook)" in done.stdout


def test_two_runs_at_any_number_of_jobs_are_canonically_identical(project):
    for name in ("one", "two", "three"):
        project.add(name)
    folders = []
    for jobs in ("1", "3"):
        reports = project.root / f"jobs{jobs}"
        done = project.run("--force", "--jobs", jobs, "--reports", str(reports))
        assert done.returncode == 0
        folders.append(reports / "quick")
    assert differences(*folders) == []
    report = folders[0] / "two" / "two.ipynb"
    report.write_text(report.read_text().replace("number 3", "number 4"))
    (folders[0] / "three" / "record.json").unlink()
    found = "\n".join(differences(*folders))
    assert "two: cell 3 differs" in found
    assert "three: there is no" in found


def test_a_published_notebook_holds_no_path_and_no_time(project):
    project.add("tiny")
    project.run("tiny")
    text = (project.reports / "quick" / "tiny" / "tiny.ipynb").read_text()
    assert str(project.root) not in text
    assert "papermill" not in text.replace("papermill_", "")
    assert "start_time" not in text


# --- the folder and the data ------------------------------------------------------------


def obey_permissions() -> None:
    """Give up the right to ignore file permissions, if this process has it."""
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux's")
def test_a_read_only_report_folder_is_refused_in_one_sentence(project):
    project.add("tiny")
    project.reports.mkdir()
    project.reports.chmod(0o555)
    done = project.run("tiny", preexec_fn=obey_permissions)
    project.reports.chmod(0o755)
    assert done.returncode == 2
    assert "cannot write into the report folder" in done.stderr
    assert "Permission denied" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(project.pids.iterdir())
