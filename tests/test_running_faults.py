"""Faults of notebooks, machines and users: told truly, stopped cleanly, nothing lost."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from test_running_publish import needs_mounts

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="Linux's process calls")

#: A child that has cut every tie to its parents, as daemons do; it notes its number.
DAEMON = """
import subprocess, sys
subprocess.run([sys.executable, "-c", '''
import os, sys, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
open(os.environ["TINY_PIDS"] + "/" + str(os.getpid()), "w").close()
time.sleep(600)
'''], stdin=-3, stdout=-3, stderr=-3)
import time
while len(os.listdir(os.environ["TINY_PIDS"])) < 2: time.sleep(0.05)
"""


def wait_until(condition, seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def home(tmp_path_factory, monkeypatch) -> Path:
    """A temporary folder of the runner's own, to see what it leaves there."""
    folder = tmp_path_factory.mktemp("t")
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def left_by(home: Path) -> list[str]:
    return [path.name for path in home.glob("bpfree-*")]


def start(project, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        project.command(*arguments),
        env=project.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a job in the background inherits an ignored SIGINT
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def staged(project) -> list[Path]:
    return list((project.reports / ".staging").glob("*"))


# --- killed, stopped, interrupted -------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        (signal.SIGTERM, 143, "stopped by SIGTERM"),
        (signal.SIGHUP, 129, "stopped by SIGHUP"),
        (signal.SIGINT, 130, "interrupted"),
    ],
)
def test_a_signal_stops_everything_with_a_word(project, home, number, code, word):
    project.add("tiny", "import time; time.sleep(600)")
    process = start(project, "tiny")
    assert wait_until(lambda: list(project.pids.iterdir()))
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == code
    assert said == f"{word}; finished reports are kept\n"
    assert not project.living_kernels()
    assert not staged(project)
    assert not left_by(home)


@LINUX
def test_a_killed_runner_leaves_no_process_no_staging_and_no_sockets(project, home):
    project.add("tiny", DAEMON + "time.sleep(600)")
    process = start(project, "tiny")
    assert wait_until(lambda: len(list(project.pids.iterdir())) == 2)
    assert len(left_by(home)) == 1
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert wait_until(lambda: not project.living_kernels())
    assert wait_until(lambda: not staged(project) and not left_by(home))


@LINUX
def test_what_outlives_its_guard_too_is_cleared_by_the_next_run(project, home):
    project.add("tiny", "import time; time.sleep(600)")
    process = start(project, "tiny")
    assert wait_until(lambda: list(project.pids.iterdir()))
    guard = [
        p for p in psutil.Process(process.pid).children() if os.getsid(p.pid) == p.pid
    ]
    for victim in [*guard, psutil.Process(process.pid)]:
        victim.kill()
    process.communicate()
    assert wait_until(lambda: not project.living_kernels())
    assert staged(project)
    assert left_by(home)
    project.add("other")
    assert project.run("other").returncode == 0
    assert not staged(project)
    assert not left_by(home)


@LINUX
@pytest.mark.parametrize("end", ["", "os.kill(os.getpid(), 9)", "1 / 0"])
def test_a_daemon_of_a_notebook_does_not_outlive_it(project, end):
    project.add("tiny", DAEMON + end)
    assert project.run("tiny").returncode == (1 if end else 0)
    assert not project.living_kernels()


def test_nothing_is_left_after_a_run_over_its_time_and_its_cells_are_kept(project, home):
    body = "print('said ' + 'before'); import time\nwhile True: time.sleep(1)"
    project.add("tiny", body)
    done = project.run("tiny", "--timeout", "8")
    assert "stopped after the limit of 8 s" in done.stdout
    assert not staged(project)
    assert not left_by(home)
    assert "said before" in (project.reports / "failed/quick/tiny.ipynb").read_text()


# --- what notebooks write ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "the notebook's record does not follow the schema"),
        ("[]", "the notebook's record does not follow the schema"),
        ('{"schema": 2, "meth', "the notebook left a damaged record"),
    ],
)
def test_a_record_that_is_none_is_told_and_the_notebook_kept(project, content, message):
    path = project.add("tiny")
    notebook = json.loads(path.read_text())
    last = notebook["cells"][-1]
    text = last["source"].replace("records.write(record, ", "(")
    last["source"] = text.replace('json");', f'json").write_text({content!r});')
    path.write_text(json.dumps(notebook))
    done = project.run("tiny")
    assert done.returncode == 1
    assert message in done.stdout
    assert (project.reports / "failed/quick/tiny.ipynb").is_file()
    assert not project.report("tiny")


def test_an_error_text_of_megabytes_is_shortened(project):
    project.add("tiny", "raise ValueError('begin' + 'x' * 5_000_000 + 'the end')")
    done = project.run("tiny")
    assert done.returncode == 1
    assert "ValueError: begin" in done.stdout
    assert "the end" in done.stdout
    assert len(done.stdout) < 50_000


def test_a_traceback_of_a_thousand_lines_is_shortened(project):
    project.add("tiny", "def deeper():\n    return deeper()\ndeeper()")
    done = project.run("tiny")
    assert done.returncode == 1
    assert "RecursionError" in done.stdout
    assert len(done.stdout.splitlines()) < 200


@pytest.mark.parametrize(
    "content", [b"[1, 2]", b"\xff\xfe", b'{"cell": "x", "cells": []}', b"[" * 5000, b"7"]
)
def test_nonsense_about_progress_does_not_reach_the_runner(tmp_path, content):
    from bpfree_common import progress

    path = tmp_path / "progress.json"
    path.write_bytes(content)
    assert progress.read(path) == {}
    assert progress.read(tmp_path) == {}


def test_a_stage_is_shown_as_it_is_and_not_taken_for_markup(tmp_path):
    from rich.console import Console

    from bpfree_common import progress
    from bpfree_common.running.execute import PROGRESS
    from bpfree_common.running.plan import Job
    from bpfree_common.running.view import View

    job = Job("tiny", "quick", {}, "", "quick", staging=tmp_path)
    stage = {"stage": "[/red] " + "long\n" * 90, "epoch": 1, "epochs": 2}
    (tmp_path / PROGRESS).write_text(json.dumps(stage))
    assert progress.read(tmp_path / PROGRESS)["epoch"] == 1
    console = Console(record=True, width=200, file=open(os.devnull, "w"))  # noqa: SIM115,PTH123
    console.print(View([job], 1)._table([job], []))
    text = console.export_text()
    assert "[/red] long" in text
    assert "1/2" in text


def test_an_executed_notebook_that_is_too_large_is_no_report(tmp_path):
    from bpfree_common.running import execute

    path = tmp_path / "tiny.ipynb"
    path.touch()
    assert execute.check_size(path) is None
    os.truncate(path, execute.LARGEST + 1)
    assert execute.check_size(path)["ename"] == "TooMuchOutput"


# --- machines ---------------------------------------------------------------------------


def test_a_long_temporary_folder_does_not_matter(project, tmp_path):
    project.add("tiny")
    long = tmp_path / ("x" * 100)
    long.mkdir()
    done = project.run("tiny", environment={"TMPDIR": str(long)})
    assert done.returncode == 0, done.stdout
    assert not list(long.iterdir())


@needs_mounts
def test_a_full_disk_is_told_in_one_sentence_and_the_old_report_kept(project):
    body = "print('x' * 30_000_000)"
    path = project.add("tiny")
    assert project.run("tiny").returncode == 0
    before = project.report("tiny")
    small = project.root / "small"
    small.mkdir()
    path.write_text(path.read_text().replace("{body}", ""))
    project.add("tiny", body)
    script = f"""
        mount -t tmpfs -o size=6m none {small}; cp -r {project.reports}/. {small}
        set +e; {sys.executable} -m bpfree_common run tiny --reports {small}
        echo "code $?"; cp -r {small}/quick {project.root}/seen; ls -A {small}/.staging
    """
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        env=project.environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stderr == ""
    start, *told = done.stdout.splitlines()
    assert start.startswith("start   tiny")
    assert told[0].startswith("FAILED  tiny: DiskFull: the disk of")
    assert told[-1] == "code 1"
    kept = project.root / "seen" / "tiny"
    assert json.loads((kept / "record.json").read_text()) == before[1]
    assert json.loads((kept / "tiny.ipynb").read_text()) == before[0]


def test_the_users_own_settings_of_ipython_and_matplotlib_do_not_act(project, tmp_path):
    startup = tmp_path / "home/.ipython/profile_default/startup"
    startup.mkdir(parents=True)
    (startup / "own.py").write_text("raise SystemExit('this is my start-up file')")
    config = tmp_path / "home/.config/matplotlib"
    config.mkdir(parents=True)
    (config / "matplotlibrc").write_text("figure.dpi: 33\n")
    project.add(
        "tiny", "import matplotlib; print('dpi', matplotlib.rcParams['figure.dpi'])"
    )
    own = {"HOME": str(tmp_path / "home"), "IPYTHONDIR": "", "XDG_CONFIG_HOME": ""}
    own["MPLCONFIGDIR"] = str(config)
    assert project.run("tiny", environment=own).returncode == 0
    text = (project.reports / "quick/tiny/tiny.ipynb").read_text()
    assert "dpi 100.0" in text
    assert "start-up" not in text


# --- what is asked for ------------------------------------------------------------------


def with_profile(project, slug: str, text: str = "standard: {}") -> None:
    """Make a notebook a paper's, with a profile."""
    catalogue = project.notebooks / "papers.yaml"
    line = f"{slug}: {{title: {slug}, short: {slug}"
    more = f"{line}, family: local_loss, profiles: {{{text}}}"
    catalogue.write_text(catalogue.read_text().replace(line, more))
    (project.notebooks / "local_loss").mkdir(exist_ok=True)
    name = f"{slug}.ipynb"
    (project.notebooks / name).rename(project.notebooks / "local_loss" / name)


def test_a_profile_that_a_paper_does_not_have_is_refused_by_name(project):
    for slug in ("one", "two"):
        project.add(slug)
        with_profile(project, slug, "" if slug == "one" else "paper: {number: 4}")
    done = project.run("one", "--profile", "paper")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: no 'paper' profile in papers.yaml for: one"
    ]
    everything = project.run("--profile", "paper")
    assert everything.returncode == 0
    assert "no paper profile: one" in everything.stdout
    assert "ok      two" in everything.stdout


@pytest.mark.parametrize("limit", ["nan", "-1", "inf", "soon"])
def test_a_time_limit_that_is_none_is_refused(project, limit):
    project.add("tiny")
    done = project.run("tiny", "--timeout", limit)
    assert done.returncode == 2
    assert "--timeout" in done.stderr.splitlines()[-1]
    assert not list(project.pids.iterdir())


def test_a_time_limit_of_zero_is_the_profiles(project):
    project.add("tiny")
    assert project.run("tiny", "--timeout", "0").returncode == 0


def test_an_empty_folder_name_is_refused_or_means_the_usual_one(project, tmp_path):
    project.add("tiny")
    done = project.run("tiny", "--reports", "")
    assert done.returncode == 2
    assert "must name a folder" in done.stderr
    from bpfree_common import paths

    before = dict(os.environ)
    try:
        os.environ |= {"BPFREE_REPORTS": "", "BPFREE_CACHE": ""}
        assert paths.reports() == paths.PROJECT / "reports"
        assert paths.cache() != Path.cwd()
    finally:
        os.environ.clear()
        os.environ.update(before)


def test_a_notebook_named_twice_runs_once(project):
    project.add("tiny")
    done = project.run("tiny", "tiny")
    assert done.stdout.count("start   tiny") == 1
    assert len(list(project.pids.iterdir())) == 1


def test_a_slip_in_one_notebooks_parameters_stops_that_notebook_only(project):
    project.add("good")
    slip = project.add("slip")
    slip.write_text(slip.read_text().replace("number: int = 3", "number = 3"))
    done = project.run()
    assert done.returncode == 2
    assert project.report("good")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: slip.ipynb")


def test_a_damaged_record_is_renewed_and_stops_no_other_notebook(project):
    for slug in ("good", "hurt"):
        project.add(slug)
    assert project.run("hurt").returncode == 0
    record = project.reports / "quick/hurt/record.json"
    record.write_text(record.read_text()[:100])
    done = project.run()
    assert done.returncode == 0, done.stdout
    assert "start   hurt" in done.stdout
    assert project.report("good")
    assert project.report("hurt")[1]["method"] == "hurt"


def test_two_runs_with_other_parameters_leave_two_reports(project):
    project.add("tiny")
    for number in ("5", "7", "5"):
        assert project.run("tiny", "-p", f"number={number}").returncode == 0
    found = sorted((project.reports / "custom").glob("*/tiny/record.json"))
    numbers = [json.loads(path.read_text())["parameters"]["number"] for path in found]
    assert numbers == [5, 7]


def test_names_of_custom_folders_never_meet():
    from bpfree_common.running.plan import place

    settings = [{"a": v} for v in ("b/c", "b_c", "b c", "x" * 90, "x" * 91, "../..")]
    settings += [{"a": "1", "b": 2}, {"a": "1,b=2"}, {"a": 1}, {"a": "1"}, {"a": True}]
    places = [place(p, s) for s in settings for p in ("quick", "standard")]
    assert len(set(places)) == len(places)
    for name in places:
        assert Path(name).parent == Path("custom")
        assert len(name) < 80
    assert place("quick", {"a": 1, "b": 2}) == place("quick", {"b": 2, "a": 1})


def test_figures_of_a_run_with_own_parameters_are_those_that_are_collected(project):
    body = """
        folder = Path(os.environ["BPFREE_RUN_DIR"], "figures")
        folder.mkdir()
        for kind in ("png", "svg" if os.environ.get("BPFREE_SVG") else "no"):
            (folder / f"a.{kind}").write_text(str(number))
    """
    path = project.add("tiny", body)
    figure = '{\\"name\\": \\"a\\", \\"caption\\": \\"c\\", \\"alt\\": \\"a\\"}'
    listed = f'\\"figures\\": [{figure}]'
    path.write_text(path.read_text().replace('\\"figures\\": []', listed))
    assert project.run("tiny").returncode == 0
    assert not (project.reports / "quick/tiny/figures/a.svg").exists()
    done = project.run("tiny", "-p", "number=7", "--figures")
    assert "2 figure files" in done.stdout
    collected = project.reports / "figures/custom/number=7/tiny"
    assert {path.name: path.read_text() for path in collected.iterdir()} == {
        "a.png": "7",
        "a.svg": "7",
    }
    again = project.run("tiny", "--figures")  # up to date, but without its SVG
    assert "start   tiny (quick; no figures)" in again.stdout
    assert (project.reports / "figures/quick/tiny/a.svg").read_text() == "3"
    assert "up to date: tiny" in project.run("tiny", "--figures").stdout


def test_a_run_ends_by_saying_what_to_open(project):
    for slug in ("one", "two"):
        project.add(slug)
    one = project.run("one").stdout.splitlines()[-1]
    assert one.startswith("open ")
    assert Path(one.split()[1]).resolve() == project.reports / "quick/one/one.ipynb"
    everything = project.run().stdout.splitlines()[-1]
    assert Path(everything.split()[1]).resolve() == project.reports / "quick"


def test_the_time_left_is_that_of_the_longest_chain():
    from bpfree_common.running.plan import Job
    from bpfree_common.running.view import time_left

    def job(expected, seconds=0.0):
        return Job("x", "quick", {}, "", "quick", expected=expected, seconds=seconds)

    assert time_left([job(10, 4)], [job(10), job(8)], 2, []) == 12
    assert time_left([job(100, 10)], [job(2)], 2, []) == 90
    assert time_left([], [job(None)], 1, []) is None
    assert time_left([job(None)], [job(None)], 1, [3, 5]) == 8
    assert time_left([job(5, 50)], [], 1, []) == 0


# --- data -------------------------------------------------------------------------------


def test_every_data_set_that_a_parameter_names_is_looked_for_first(monkeypatch):
    from bpfree_common.data import datasets
    from bpfree_common.errors import DataError
    from bpfree_common.running.plan import Job, check_data

    asked = []

    def files(name):
        asked.append(name)
        if name in ("cora", "fsdd"):
            raise DataError(f"data set {name!r} is away")

    monkeypatch.setattr(datasets, "files", files)
    both = {"dataset": "cora", "sequences": "fsdd", "text": "plain", "epochs": 3}
    fine = {"photos": "mnist", "dataset": "digits"}
    jobs = [
        Job(name, "standard", values, "", "standard")
        for name, values in (("both", both), ("fine", fine), ("again", fine))
    ]
    missing = check_data(jobs)
    assert missing == {"both": "data set 'cora' is away; data set 'fsdd' is away"}
    assert sorted(asked) == ["cora", "digits", "fsdd", "mnist"]


def test_a_missing_data_set_stops_only_the_notebooks_that_need_it(project, tmp_path):
    project.add("good")
    path = project.add("needy")
    choices = 'word: str = \\"fsdd\\"  # a, fsdd |'
    path.write_text(path.read_text().replace('word: str = \\"a\\"  # a, b |', choices))
    empty = {"BPFREE_DATA": "", "BPFREE_CACHE": str(tmp_path), "BPFREE_OFFLINE": "1"}
    done = project.run(environment=empty)
    assert done.returncode == 2
    assert "FAILED  needy: DataError: data set 'fsdd'" in done.stdout
    assert project.report("good")
    assert len(list(project.pids.iterdir())) == 1
