"""Records: units of code and their digests, schemas, and reports tied to records."""

import json
import subprocess
import sys

import pytest

from bpfree_common import executed, paths, records
from bpfree_common.errors import CatalogueError, ReportError
from bpfree_common.papers import catalogue, loader, notebook
from bpfree_common.records import integrity, provenance
from bpfree_common.records.units import digest16, units

# --- units and their digests ------------------------------------------------------------

GOLDEN = r'''
"""Doc."""
from __future__ import annotations
import numpy as np
from bpfree_common.learning import optim as o
from torch import nn, Tensor as T
X: int = 3
a, b = 1e-7, 0x10
TEXT = "a" f"b{X!r:>{b}}" "c" f"{X=}" f"{X:.3f}{{}}" r"\d"; Z = b"\x00"
@dec(1)
def f(x, /, y: int = 2, *a, z=3, **k) -> list[int]:
    """Doc."""
    # why
    match x:
        case {"a": [1, *rest], **more} if y: return [i async for i in rest]
        case T(p=1) | None: pass
    with open(x) as g, (yield): del g
    try: return lambda: (x := 1j)
    except* ValueError as e: raise e from None
    finally: print(f'{x!s:{y}.{z}}', f"{x:}", f"", f"{'a' 'b'}", sep='')

class A(nn.Module, metaclass=M):
    """Doc."""
    c = 1
    def m(self): "d"
    @property
    async def p(self): return await self.m(), *self.q, [1][::2], ..., -1, 10**400, 1_000.5
    class B:
        def n(self): nonlocal_ = 1; global X; X += 1
if X: Y = 1
else:
    def hidden(): ...
for sum in ():  pass
'''


def test_digests_are_those_of_python_3_11_in_every_version():
    # found equal by running this module in Python 3.11, 3.12, 3.13 and 3.14
    found = units(GOLDEN)
    assert found.functions["f"] == "4375766f733c4db8"
    assert found.functions["A.B.n"] == "800fd76776d23512"
    assert (
        digest16([found.functions, found.bindings, found.imports]) == "e57d8caebae67868"
    )


SAME = {
    "comment": ("def f():\n    return 1\n", "def f():  # one\n    return 1\n"),
    "docstring": ("def f():\n    return 1\n", 'def f():\n    "D."\n    return 1\n'),
    "layout": ("f = g(1, 2)\n", "f = g(\n    1,\n    2,\n)\n"),
    "quotes": ("a = 'x'\n", 'a = "x"\n'),
    "f-string pieces": ("a = f'x{b}y'\n", "a = 'x' f'{b}' 'y'\n"),
    "order of functions": (
        "def f(): pass\ndef g(): pass\n",
        "def g(): pass\ndef f(): pass\n",
    ),
}


@pytest.mark.parametrize("case", SAME)
def test_what_does_not_change_the_code_does_not_change_its_digest(case):
    one, two = map(units, SAME[case])
    assert one.all == two.all


@pytest.mark.parametrize(
    ("one", "two", "unit"),
    [
        ("def f():\n return 1", "def f():\n return 2", "f"),
        ("def f():\n return 1", "def f():\n return 1.0", "f"),
        ("def f():\n return 1", "def f():\n return True", "f"),
        ("def f(a=1): pass", "def f(a=2): pass", "f"),
        ("def f(): pass", "@cache\ndef f(): pass", "f"),
        ("def f():\n return 'a'", "def f():\n return b'a'", "f"),
        ("def f():\n def g(): return 1", "def f():\n def g(): return 2", "f"),
        ("class A:\n def f(self): return 1", "class A:\n def f(self): return 2", "A.f"),
        ("class A: b = 1", "class A: b = 2", "A"),
        ("class A(B): pass", "class A(C): pass", "A"),
        ("class A: pass", "class A:\n def step(self): pass", "A"),  # may override
        ("N = 1", "N = 2", "N"),
        ("import a as x", "import b as x", "x"),
        ("for i in a: b(i)", "for i in a: c(i)", ""),
        ("x = 1", "x = 1\ndef sum(): pass", ""),  # hides a builtin
    ],
)
def test_a_change_of_code_changes_the_digest_of_its_unit_alone(one, two, unit):
    before, after = units(one).all, units(two).all
    assert before[unit] != after[unit]
    assert {n for n in before if before[n] != after.get(n)} == {unit}


def test_a_new_function_or_class_changes_no_other_unit():
    before = units("N = 1\ndef f(): return N\n").all
    after = units("N = 1\ndef f(): return N\ndef g(): pass\nclass C: pass\n").all
    assert before.items() <= after.items()


# --- what was executed ------------------------------------------------------------------


def run_noted(text: str) -> tuple[dict, dict]:
    """The namespace of a module that notes its calls, and its notes."""
    import ast

    executed.CALLS.pop("synthetic", None)
    tree = executed.noted(ast.parse(text), "synthetic")
    namespace: dict = {}
    exec(compile(tree, "synthetic.py", "exec"), namespace)
    return namespace, executed.CALLS.pop("synthetic")


def test_a_function_is_noted_when_it_is_called_and_not_before():
    text = """
'''Doc.'''
from __future__ import annotations
from functools import cached_property

def used():
    '''Doc.'''
    def inner(): return 3
    return inner()

def unused(): return 1

class A:
    def __init__(self): self.x = 1
    @property
    def value(self): yield 4
    @cached_property
    def kept(self): return 5
    class B:
        @staticmethod
        def deep(): '''Only a docstring.'''
"""
    space, notes = run_noted(text)
    assert notes == {}
    assert (space["__doc__"], space["used"].__doc__) == ("Doc.", "Doc.")
    assert space["used"]() == 3
    assert set(notes) == {"used"}
    generator = space["A"]().value
    assert set(notes) == {"used", "A.__init__"}
    assert [*generator] == [4]
    assert space["A"]().kept == 5
    space["A"].B.deep()
    called = {"used", "A.__init__", "A.value", "A.kept", "A.B.deep"}
    assert set(notes) == called
    assert set(units(text).functions) == called | {"unused"}


def in_new_process(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_laboratory_of_a_run_is_what_it_called_and_imported():
    code = """
import json
from bpfree_common import sgd
from bpfree_common.records import provenance
sgd(0.1)
print(json.dumps([provenance.laboratory(), provenance.used_names()]))
"""
    laboratory, names = json.loads(in_new_process(code))
    assert "sgd" in laboratory["learning.optim"]
    assert "adam" not in laboratory["learning.optim"]
    assert "data.tasks" not in laboratory
    assert not [m for m in laboratory if m.split(".")[0] in ("records", "running")]
    assert names == {"sgd": "learning.optim:sgd"}
    found = provenance.disk("learning.optim").all
    assert all(
        found[unit] == digest
        for unit, digest in laboratory["learning.optim"].items()
        if not digest.startswith("@")
    )


def test_tracebacks_show_the_lines_of_the_file():
    code = """
import traceback
from bpfree_common.papers import parameters
try:
    parameters.parse(None, "x")
except Exception:
    print(traceback.format_exc())
"""
    text = in_new_process(code)
    lines = (paths.LABORATORY / "papers" / "parameters.py").read_text().splitlines()
    shown = [
        (int(line.split("line ")[1].split(",")[0]), text.splitlines()[n + 1].strip())
        for n, line in enumerate(text.splitlines())
        if "papers/parameters.py" in line
    ]
    assert shown
    assert all(lines[number - 1].strip() == code for number, code in shown)


def test_a_module_may_be_run_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "bpfree_common.__main__", "list"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_only_packages_that_were_loaded_and_can_change_a_number_count():
    code = "import numpy, psutil, json; from bpfree_common.records import provenance\n"
    found = json.loads(in_new_process(code + "print(json.dumps(provenance.packages()))"))
    assert "numpy" in found
    assert not {"psutil", "torch", "tornado", "ruff", "pandas"} & set(found)


def test_start_up_files_and_settings_are_told_without_their_places(monkeypatch, tmp_path):
    startup = tmp_path / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00-first.py").write_text("x = 1\n")
    (tmp_path / "matplotlibrc").write_text("figure.dpi: 33\n")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("MATPLOTLIBRC", str(tmp_path / "matplotlibrc"))
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    found = records.surroundings()
    assert list(found["startup"]) == ["00-first.py"]
    assert found["matplotlibrc"] is not None
    assert found["aten_cpu_capability"] == "avx2"
    assert str(tmp_path) not in json.dumps(found)


# --- schemas ----------------------------------------------------------------------------


def new_record() -> dict:
    """A record of schema 2 with one metric and one claim."""
    empty = {name: {} for name in ("tuning", "curves", "cost", "audit", "timing")}
    parameters = catalogue.get("template").resolve("quick")
    metric = {"arm": "rule", "name": "test accuracy", "unit": "fraction"}
    metric |= {"values": [0.8, 0.9], "mean": 0.85, "std": 0.07071067811865474}
    claim = {"name": "c", "text": "t", "source": "paper", "verdict": "reproduced"}
    claim |= {"measured": {"all": [0.8, 0.9]}, "intervals": {"all": [0.8, 0.85, 0.9]}}
    claim |= {"verdicts": {"all": "reproduced"}, "band": [0.7, None], "null": 0.5}
    claim |= {"unit": "", "note": "", "why": "", "share": None, "doubled": None}
    return empty | {
        "schema": 2,
        "method": "template",
        "title": "",
        "short": "",
        "family": None,
        "profile": "quick",
        "parameters": parameters,
        "seeds": [0],
        "tuning_seeds": [100],
        "metrics": [metric | {"interval": [0.8, 0.9]}],
        "identities": [],
        "claims": [claim],
        "findings": ["One."],
        "headline": "",
        "budget": {},
        "figures": [],
        "environment": {"threads": 1},
        "hashes": records.run_hashes("template", parameters, [], "quick"),
    }


@pytest.mark.parametrize(
    "damage",
    [
        lambda r: r.pop("findings"),
        lambda r: r.update(mood="good"),
        lambda r: r["claims"][0].update(verdict="partial"),
        lambda r: r["claims"][0].update(source="hearsay"),
        lambda r: r["claims"][0].update(intervals={"all": [0.8, 0.9]}),
        lambda r: r["metrics"][0].pop("interval"),
        lambda r: r["hashes"].pop("laboratory"),
        lambda r: r.update(timing={"seconds": float("nan")}),
    ],
)
def test_a_record_that_breaks_schema_2_is_never_written(tmp_path, damage):
    record = new_record()
    records.check(record)
    damage(record)
    with pytest.raises(Exception, match="data|finite"):
        records.write(record, tmp_path / "record.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("slug", [s for s, e in catalogue.load().items() if e.is_paper])
def test_every_committed_record_can_be_read_and_is_what_its_run_left(slug):
    reports = paths.PROJECT / "reports"
    assert records.load(slug, "standard", reports)["method"] == slug
    assert records.problems(slug, "standard", reports) == []


# --- a report tied to its record --------------------------------------------------------


@pytest.fixture
def report(tmp_path):
    """A folder of reports with a sealed one of the template; its notebook and record."""
    folder = records.folder("template", "quick", tmp_path)
    content = notebook.read(catalogue.get("template").path)
    count = 0
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            count += 1
            cell["execution_count"] = count
            text = {"output_type": "stream", "name": "stdout", "text": "0.963533\n"}
            cell["outputs"] = [text] if count == 2 else []
    content["cells"].insert(1, injected())
    record = new_record() | {"timing": {"step_time_ratio": {"rule": 1.5}}}
    path = folder / "template.ipynb"
    records.write(record, folder / records.NAME)
    path.write_text(json.dumps(content))
    records.seal(folder / records.NAME, path)
    assert records.problems("template", "quick", tmp_path) == []
    return tmp_path


def injected() -> dict:
    return {
        "cell_type": "code",
        "execution_count": 1,
        "metadata": {"tags": ["injected-parameters"]},
        "outputs": [],
        "source": "# Parameters\nepochs = 1\n",
    }


def change(reports, name: str, edit) -> None:
    """Apply `edit` to the JSON of a file of the report."""
    path = records.folder("template", "quick", reports) / name
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def set_output(content):
    for cell in content["cells"]:
        for output in cell.get("outputs", []):
            output["text"] = "0.9999\n"


def drop_cell(content):
    del content["cells"][4]


def comment_rules(content):
    for cell in content["cells"]:
        if "rule" in notebook.tags(cell):
            cell["source"] = "# nothing"


def not_run(content):
    next(c for c in content["cells"] if c["cell_type"] == "code")["execution_count"] = (
        None
    )


CHANGED = "the executed notebook was changed after its run"
NOTEBOOK = {
    "a changed number": (set_output, CHANGED),
    "a missing cell": (drop_cell, "the executed notebook is not the one that made"),
    "no rules": (comment_rules, "the executed notebook is not the one that made"),
    "a cell not run": (not_run, "a cell of the executed notebook was not run"),
}


@pytest.mark.parametrize("case", NOTEBOOK)
def test_a_changed_notebook_is_noticed(report, case):
    edit, said = NOTEBOOK[case]
    change(report, "template.ipynb", edit)
    found = records.problems("template", "quick", report)
    assert any(said in words for words in found), found
    assert records.stale("template", "quick", report) == found[0]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cells": 3}', "\udcff"])
def test_an_empty_or_broken_notebook_is_noticed(report, text):
    path = records.folder("template", "quick", report) / "template.ipynb"
    path.write_bytes(text.encode(errors="surrogateescape"))
    (found,) = records.problems("template", "quick", report)
    assert "template.ipynb is not a notebook" in found


def test_another_papers_notebook_is_noticed(report):
    other = records.folder("comq", "standard", paths.PROJECT / "reports") / "comq.ipynb"
    path = records.folder("template", "quick", report) / "template.ipynb"
    path.write_bytes(other.read_bytes())
    found = records.problems("template", "quick", report)
    assert "the executed notebook is not the one that made the record" in found


def set_mean(record):
    record["metrics"][0]["mean"] = 0.99


def set_std(record):
    record["metrics"][0]["std"] = 0.0


def set_interval(record):
    record["metrics"][0]["interval"] = [0.86, 0.9]


def lower_band(record):
    record["claims"][0]["band"] = [0.95, None]


def astride(record):
    record["claims"][0]["band"] = [0.85, None]


def other_values(record):
    record["claims"][0]["measured"]["all"] = [0.1, 0.2]


def all_in_all(record):
    record["claims"][0]["verdicts"]["all"] = "not reproduced"
    record["claims"][0]["band"] = [0.95, None]


RECORD = {
    "a mean that is not its values'": (set_mean, "the mean is not that of its values"),
    "a spread that is not its values'": (set_std, "standard deviation is not that"),
    "a mean outside its interval": (set_interval, "the mean lies outside its interval"),
    "a verdict against its band": (lower_band, "claim c: the verdict does not follow"),
    "a verdict that straddles": (astride, "claim c: the verdict does not follow"),
    "a verdict against its settings": (
        all_in_all,
        "claim c: the verdict does not follow",
    ),
    "a claim of other numbers": (
        other_values,
        "claim c: all: the mean is not of",
    ),
    "another method": (lambda r: r.update(method="comq"), "the record is of 'comq'"),
    "another profile": (lambda r: r.update(profile="paper"), "of the profile 'paper'"),
    "other parameters": (
        lambda r: r.update(parameters={"epochs": 999}),
        "the record's parameters are not those it was made with",
    ),
    "another finding": (
        lambda r: r.update(findings=["All is well."]),
        "the record was changed after its run",
    ),
    "other hashes": (
        lambda r: r["hashes"].update(lock={}),
        "the record was changed after its run",
    ),
    "another step time": (
        lambda r: r.update(timing={"step_time_ratio": {"rule": 0.001}}),
        "times in the record or the notebook were changed after the run",
    ),
    "no seal": (lambda r: r["hashes"].pop("seal"), "the record is not sealed"),
}


@pytest.mark.parametrize("case", RECORD)
def test_a_changed_record_is_noticed(report, case):
    edit, said = RECORD[case]
    change(report, records.NAME, edit)
    found = records.problems("template", "quick", report)
    assert any(said in words for words in found), found
    assert records.state("template", "quick", report) == ("stale", found[0])


CLAIM = {"name": "c", "share": None, "null": None}


@pytest.mark.parametrize(
    ("interval", "band", "null", "verdict"),
    [
        # the band is a floor, the null lies below
        ([0.8, 0.85, 0.9], [0.7, None], 0.5, "reproduced"),
        ([0.6, 0.75, 0.9], [0.7, None], 0.5, "undecided"),
        ([0.5, 0.55, 0.6], [0.7, None], 0.5, "not reproduced"),
        # a ceiling, the null above
        ([0.1, 0.2, 0.3], [None, 0.4], 1.0, "reproduced"),
        ([0.1, 0.3, 0.5], [None, 0.4], 1.0, "undecided"),
        ([0.5, 0.6, 0.7], [None, 0.4], 1.0, "not reproduced"),
        # two sides: past the far one is beyond, short of the near one is a failure
        ([2.1, 2.2, 2.3], [1.0, 2.0], 0.0, "beyond"),
        ([0.1, 0.2, 0.3], [1.0, 2.0], 0.0, "not reproduced"),
        ([0.1, 0.2, 0.3], [1.0, 2.0], 3.0, "beyond"),
        ([2.1, 2.2, 2.3], [1.0, 2.0], 3.0, "not reproduced"),
        # nothing can decide
        ([None, 1.5, None], [1.0, 2.0], 0.0, "undecided"),
        ([1.4, 1.5, 1.6], [1.0, 2.0], 1.2, "undecided"),
    ],
)
def test_a_verdict_must_follow_from_interval_band_and_null(interval, band, null, verdict):
    assert integrity._verdict(interval, band, null) == verdict


@pytest.mark.parametrize(
    ("verdicts", "share", "allowed"),
    [
        (["reproduced", "reproduced"], None, {"reproduced"}),
        (["beyond", "reproduced"], None, {"reproduced"}),
        (["beyond"], None, {"beyond"}),
        (["reproduced", "not reproduced"], 0.1, {"undecided"}),
        (["not reproduced"], 1.0, {"not reproduced"}),
        (["not reproduced"], None, {"not reproduced", "not attempted at this scale"}),
        (["not reproduced"], 0.1, {"not reproduced", "not attempted at this scale"}),
        ([], None, {"not attempted at this scale"}),
    ],
)
def test_the_verdict_of_a_claim_follows_from_its_settings(verdicts, share, allowed):
    claim = CLAIM | {"verdicts": dict(enumerate(verdicts)), "share": share}
    assert integrity._whole(claim) == allowed


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"schema": 2}', "<<<<<<< HEAD", "\udcff", "[" * 10_000]
)
def test_a_damaged_record_is_stale_and_says_so(report, text):
    path = records.folder("template", "quick", report) / records.NAME
    path.write_bytes(text.encode(errors="surrogateescape"))
    word, reason = records.state("template", "quick", report)
    assert word == "stale"
    assert f"{path} is not valid" in reason
    assert "run `make reports`" in reason
    with pytest.raises(ReportError):
        records.load("template", "quick", report)


def test_the_seal_names_the_notebook_that_was_executed(report):
    folder = records.folder("template", "quick", report)
    change(report, "template.ipynb", drop_cell)
    records.seal(folder / records.NAME, folder / "template.ipynb")
    assert records.problems("template", "quick", report) == []
    assert records.stale("template", "quick", report).startswith("changed: notebook")


def test_a_notebook_that_is_none_cannot_be_sealed(report):
    folder = records.folder("template", "quick", report)
    (folder / "template.ipynb").write_text("")
    with pytest.raises(CatalogueError, match="is not a notebook"):
        records.seal(folder / records.NAME, folder / "template.ipynb")


def test_times_do_not_enter_the_canonical_record_but_are_sealed(report):
    folder = records.folder("template", "quick", report)
    before = records.load("template", "quick", report)
    change(report, records.NAME, lambda r: r.update(timing={"seconds": 3}))
    records.seal(folder / records.NAME, folder / "template.ipynb")
    after = records.load("template", "quick", report)
    assert records.canonical(before) == records.canonical(after)
    assert before["hashes"]["seal"] != after["hashes"]["seal"]


def test_a_rule_of_another_notebook_counts_as_it_was_loaded(monkeypatch, tmp_path):
    path = tmp_path / "template.ipynb"
    text = catalogue.get("template").path.read_text()
    path.write_text(text)
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path)
    for name in [each for each in sys.modules if each.startswith("bpfree_papers.")]:
        monkeypatch.delitem(sys.modules, name)  # other tests have loaded some
    loader.load_rule("template")
    before = provenance.rule_hash("template")
    assert provenance.rules([])["template"] == before
    path.write_text(text.replace("class RandomReadout", "class Readout"))
    assert provenance.rule_hash("template") != before, "the file has changed"
    loaded = provenance.rules(["template"])["template"]
    assert loaded != provenance.rule_hash("template"), "but that is not what was run"
    path.write_text(text)
    assert provenance.rules(["template"])["template"] == provenance.rule_hash("template")
