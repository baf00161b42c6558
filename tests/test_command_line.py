"""The command line, and the one sentence that a user error shows wherever it is met."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell

import bpfree_common
from bpfree_common import errors
from bpfree_common.__main__ import main
from bpfree_common.errors import DataMissing, DeviceError, UserError, choices, short
from bpfree_common.learning import training
from bpfree_common.papers import catalogue

COMMAND = [sys.executable, "-m", "bpfree_common"]


def stopped(*arguments: str) -> int:
    """The exit code of a command that argparse itself answers."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    return stop.value.code


def test_the_version_is_told(capsys):
    assert stopped("--version") == 0
    assert capsys.readouterr().out == f"{bpfree_common.__version__}\n"


# --- notebooks and their parameters -----------------------------------------------------


def test_the_list_for_programs_is_that_of_the_catalogue(capsys):
    assert main(["list", "--json"]) == 0
    rows = {row["slug"]: row for row in json.loads(capsys.readouterr().out)}
    entries = catalogue.load()
    assert list(rows) == list(entries)
    for slug, entry in entries.items():
        assert (rows[slug]["title"], rows[slug]["family"]) == (entry.title, entry.family)
        assert (catalogue.paths.NOTEBOOKS / rows[slug]["notebook"]).is_file()
        for profile in rows[slug]["profiles"]:
            entry.resolve(profile)
    assert rows["overview"]["profiles"] == list(catalogue.PROFILES)


def test_the_list_for_readers_has_a_line_for_each_notebook_and_counts_its_jobs(capsys):
    assert main(["list"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    entries = catalogue.load().values()
    assert names == list(dict.fromkeys(entry.of or entry.slug for entry in entries))


def test_the_list_for_programs_does_not_depend_on_reports(tmp_path, monkeypatch, capsys):
    lists = []
    for folder in ("none", "some"):
        monkeypatch.setenv("BPFREE_REPORTS", str(tmp_path / folder))
        (tmp_path / "some" / "quick" / "template").mkdir(parents=True, exist_ok=True)
        assert main(["list", "--json"]) == 0
        lists.append(capsys.readouterr().out)
    assert lists[0] == lists[1]


def test_the_parameters_of_a_notebook_are_listed_with_values_ranges_and_meaning(capsys):
    assert main(["parameters", "template"]) == 0
    lines = capsys.readouterr().out.splitlines()
    declared = catalogue.get("template").declared()
    assert len(lines) == len(declared)
    for line, (name, parameter) in zip(lines, declared.items(), strict=True):
        assert line.startswith(f"{name}={parameter.default} ")
        assert f" {parameter.type} " in line
        assert line.endswith(f"{parameter.limits}  | {parameter.help}")


@pytest.mark.parametrize("slug", ["forward_forward", "contest_dense-pepita"])
def test_the_parameters_of_a_profile_are_its_values(slug, capsys):
    assert main(["parameters", slug, "--profile", "standard"]) == 0
    lines = capsys.readouterr().out.splitlines()
    changed = catalogue.get(slug).changes("standard")
    assert changed
    for name, value in changed.items():
        assert any(line.startswith(f"{name}={value} ") for line in lines)


def test_help_after_a_notebook_shows_its_parameters(capsys):
    main(["parameters", "template"])
    table = capsys.readouterr().out
    assert stopped("run", "template", "--help") == 0
    assert capsys.readouterr().out.endswith(table)
    assert stopped("run", "--help") == 0
    assert "\nparameters of" not in capsys.readouterr().out
    assert stopped("run", "templat", "--help") == 2
    assert "did you mean template?" in capsys.readouterr().err


def test_the_figures_of_a_report_are_written_as_they_are_without_a_run(tmp_path, capsys):
    slug = "forward_forward"
    report = tmp_path / "standard" / slug
    shutil.copytree(catalogue.paths.PROJECT / "reports/standard" / slug, report)
    before = {path: path.read_bytes() for path in report.iterdir() if path.is_file()}
    assert main(["figures", slug, "--reports", str(tmp_path)]) == 0
    names = [
        f["name"] for f in json.loads((report / "record.json").read_text())["figures"]
    ]
    written = sorted((tmp_path / "figures" / "standard" / slug).iterdir())
    assert [path.stem for path in written] == sorted(names)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    assert f"{len(names)} figure files" in capsys.readouterr().out
    assert before == {path: path.read_bytes() for path in before}


def test_no_report_has_no_figures_and_says_so(tmp_path, capsys):
    assert main(["figures", "forward_forward", "--reports", str(tmp_path)]) == 2
    assert "no standard report has figures" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "template", "-p", "seeds=1", "-p", "seeds=2"], "'seeds' is given twice"),
        (["run", "template", "-p", "seeds"], "'seeds' is not NAME=VALUE"),
        (["run", "template", "-p", "s" * 5_000], "is not NAME=VALUE"),
        (["run", "forward_forward", "-p", f"lr={'9' * 400}"], "lr=inf is out of range"),
        (["run", "forward_forward", "-p", "lr={{}}"], "is a str, but lr takes float"),
        (["run", "templete"], "no notebook 'templete': did you mean template?"),
        (["parameters", "templete"], "no notebook 'templete': did you mean template?"),
        (["data", "minst"], "no data set 'minst': did you mean mnist"),
    ],
)
def test_what_is_wrong_is_told_in_one_sentence(
    tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.setenv("BPFREE_REPORTS", str(tmp_path))
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
    assert len(said) < 400


def test_a_reader_who_has_seen_enough_leaves_no_traceback():
    """The pipe is closed before a line is written, as `| head` may do."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        done = subprocess.run(
            [*COMMAND, "list"], stdout=pipe, stderr=subprocess.PIPE, text=True
        )
    assert done.stderr == ""
    assert done.returncode == 141


# --- errors -----------------------------------------------------------------------------


def every_kind(base=UserError) -> list[type]:
    return [base, *(kind for sub in base.__subclasses__() for kind in every_kind(sub))]


@pytest.mark.parametrize("kind", every_kind(), ids=lambda kind: kind.__name__)
def test_a_notebook_shows_a_user_error_as_one_sentence(kind, capsys):
    shell = InteractiveShell()
    shell.user_ns["kind"] = kind
    shell.run_cell("def inner():\n    raise kind('put it there')\n\ninner()")
    shown = capsys.readouterr()
    assert (shown.out + shown.err).strip() == f"{kind.__name__}: put it there"


def test_a_mistake_in_the_code_still_shows_where_it_is(capsys):
    InteractiveShell().run_cell("def inner():\n    return 1 / 0\n\ninner()")
    assert "return 1 / 0" in re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)


def test_a_kernel_and_the_runner_show_a_user_error_as_one_sentence(project):
    body = (
        "from bpfree_common.errors import DataMissing\nraise DataMissing('put it there')"
    )
    project.add("tiny", body)
    done = project.run("tiny")
    assert done.returncode == 2, "all that failed is the user's to mend"
    assert "DataMissing: put it there" in done.stdout
    assert "raise errors" not in done.stdout + done.stderr
    failed = json.loads((project.reports / "failed/quick/tiny.ipynb").read_text())
    outputs = [o for c in failed["cells"] for o in c.get("outputs", [])]
    (error,) = [o for o in outputs if o["output_type"] == "error"]
    assert error["traceback"] == ["DataMissing: put it there"]


def test_every_user_error_exits_with_2():
    assert {kind.exit_code for kind in every_kind()} == {2}
    assert DataMissing in every_kind()
    assert not issubclass(errors.IdentityFailed, UserError)


@pytest.mark.parametrize("name", ["warp", "cuda:99"])
def test_a_device_that_cannot_be_used_is_named(monkeypatch, name):
    monkeypatch.setenv("BPFREE_DEVICE", name)
    with pytest.raises(DeviceError, match=f"BPFREE_DEVICE='{name}' cannot") as caught:
        training.device()
    assert len(str(caught.value).splitlines()) == 1
    monkeypatch.setenv("BPFREE_DEVICE", "cpu")
    assert training.device() == torch.device("cpu")


def test_the_nearest_names_are_offered_and_else_all():
    assert choices("minst", ["mnist", "cora"]) == "did you mean mnist?"
    assert choices("zzz", ["mnist", "cora"]) == "choose one of mnist, cora"
    assert choices(7, ["a"]) == "choose one of a"


def test_what_is_long_is_cut_for_a_sentence():
    assert short("abc") == "'abc'"
    assert short("a" * 100, 20) == "'" + "a" * 16 + "..."
    assert len(short(list(range(100_000)))) == 60
    assert short(10**5000) == "a int too long to print"
