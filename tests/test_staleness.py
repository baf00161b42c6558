"""Staleness, both ways: what can change a report makes it stale, nothing else does."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import FINISH, PARAMETERS, cell

from bpfree_common import paths, records
from bpfree_common.errors import CatalogueError
from bpfree_common.records import provenance, replay
from bpfree_common.records.coverage import Changes
from bpfree_common.records.moves import laboratory_changes
from bpfree_common.records.units import units

# --- a laboratory of three modules ------------------------------------------------------

LABORATORY = {
    "learning/optim.py": """
        import math
        from bpfree_common.learning.step import size

        RATE = 0.1

        def adam(lr):
            return size(lr) * RATE

        def sgd(lr):
            return math.sqrt(lr)

        class Plan:
            warm = 1
            def rate(self):
                return self.warm
        """,
    "learning/step.py": """
        def size(lr):
            return lr
        """,
    "other/step.py": """
        def size(lr):
            return 2 * lr
        """,
}
CALLED = {"learning.optim": {"adam", "Plan.rate"}, "learning.step": {"size"}}


@pytest.fixture
def laboratory(tmp_path, monkeypatch):
    """A laboratory in a temporary folder, and hashes of a run that used some of it."""
    monkeypatch.setattr(paths, "LABORATORY", tmp_path)
    monkeypatch.setattr(paths, "PROJECT", tmp_path)
    monkeypatch.setattr(provenance, "names", lambda: {"adam": "learning.optim:adam"})
    for name, text in LABORATORY.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(text))
    was = {
        module: provenance._entries(provenance.disk(module), called)
        for module, called in CALLED.items()
    }
    return tmp_path, was


def changed(laboratory) -> list[str]:
    return laboratory_changes(laboratory[1], {"adam": "learning.optim:adam"})


def edit(laboratory, name: str, old: str, new: str) -> None:
    path = laboratory[0] / name
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


HARMLESS = {
    "a comment": ("RATE = 0.1", "RATE = 0.1  # a tenth"),
    "a docstring": ("    return size(lr)", '    "Steps."\n    return size(lr)'),
    "a function that was not called": ("math.sqrt(lr)", "lr"),
    "a new function": ("RATE = 0.1\n", "RATE = 0.1\ndef new(): pass\n"),
    "a new class": ("RATE = 0.1\n", "RATE = 0.1\nclass New:\n    x = 1\n"),
    "a new constant": ("RATE = 0.1\n", "RATE = 0.1\nOTHER = 2\n"),
    "a new import": ("import math\n", "import json\nimport math\n"),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_a_harmless_change_of_the_laboratory_makes_nothing_stale(laboratory, case):
    old, new = HARMLESS[case]
    edit(laboratory, "learning/optim.py", old, new)
    assert changed(laboratory) == []


HARMFUL = {
    "a function that was called": ("* RATE", "/ RATE", "learning.optim.adam"),
    "its signature": ("adam(lr)", "adam(lr=1)", "learning.optim.adam"),
    "a constant": ("RATE = 0.1", "RATE = 0.2", "learning.optim.RATE"),
    "an attribute of a class": ("warm = 1", "warm = 2", "learning.optim.Plan"),
    "a new method": (
        "    warm = 1",
        "    warm = 1\n    def __getattribute__(self, name): return 7",
        "learning.optim.Plan",
    ),
    "another package under a name": (
        "import math",
        "import cmath as math",
        "learning.optim.math",
    ),
    "a statement of the module": (
        "RATE = 0.1\n",
        "RATE = 0.1\nglobals().update(RATE=3)\n",
        "learning.optim, outside its functions",
    ),
    "another function under an imported name": (
        "from bpfree_common.learning.step import size",
        "from bpfree_common.other.step import size",
        "learning.optim.size",
    ),
    "an own function under an imported name": (
        "from bpfree_common.learning.step import size",
        "def size(lr): return 3 * lr",
        "learning.optim.size",
    ),
}


@pytest.mark.parametrize("case", HARMFUL)
def test_what_ran_and_changed_is_named(laboratory, case):
    old, new, said = HARMFUL[case]
    edit(laboratory, "learning/optim.py", old, new)
    assert said in changed(laboratory)
    edit(laboratory, "learning/optim.py", new, old)
    assert changed(laboratory) == []


def test_a_function_that_moved_has_not_changed(laboratory):
    root, _ = laboratory
    (root / "learning/step.py").rename(root / "learning/steps.py")
    edit(laboratory, "learning/optim.py", "learning.step ", "learning.steps ")
    assert changed(laboratory) == []


def test_a_function_that_moved_and_changed_is_named(laboratory):
    root, _ = laboratory
    (root / "learning/step.py").rename(root / "learning/steps.py")
    edit(laboratory, "learning/steps.py", "return lr", "return 5 * lr")
    assert changed(laboratory) == ["learning.step.size"]


def test_a_copy_elsewhere_does_not_hide_a_change(laboratory):
    root, _ = laboratory
    shutil.copy(root / "learning/step.py", root / "other/copy.py")
    edit(laboratory, "learning/step.py", "return lr", "return 5 * lr")
    assert changed(laboratory) == ["learning.step.size"]


def test_an_import_of_an_equal_copy_is_no_change(laboratory):
    root, _ = laboratory
    shutil.copy(root / "learning/step.py", root / "other/copy.py")
    edit(laboratory, "learning/optim.py", "learning.step ", "other.copy ")
    assert changed(laboratory) == []


def test_a_public_name_that_means_another_function_is_a_change(laboratory, monkeypatch):
    monkeypatch.setattr(provenance, "names", lambda: {"adam": "learning.optim:sgd"})
    assert changed(laboratory) == ["the name 'adam'"]


def test_a_module_that_is_no_python_is_named(laboratory):
    edit(laboratory, "learning/optim.py", "def adam(lr):", "<<<<<<< HEAD")
    with pytest.raises(CatalogueError, match=r"learning/optim.py is not valid Python"):
        changed(laboratory)


def test_plumbing_does_not_count_but_what_makes_a_result_does():
    for module in ("running.processes", "running.view", "records.record", "errors"):
        assert not provenance.counts(module)
    for module in ("papers.loader", "papers.parameters", "data.datasets", "data.tasks"):
        assert provenance.counts(module)


# --- runs during which something is edited ----------------------------------------------


def test_an_edit_of_the_laboratory_during_a_run_cannot_pass_for_what_ran(tmp_path):
    shutil.copytree(
        paths.LABORATORY,
        tmp_path / "bpfree_common",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    code = """
from pathlib import Path
from bpfree_common import sgd
from bpfree_common.records import provenance
from bpfree_common.records.moves import laboratory_changes
sgd(0.1)
path = provenance.paths.LABORATORY / "learning" / "optim.py"
text = path.read_text()
def now():
    return laboratory_changes(provenance.laboratory(), provenance.used_names())
print(now())
path.write_text(text.replace("def sgd(", "def sgd(never=1, *, "))
print(now())
path.write_text(text)
print(now())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == ["[]", "['learning.optim.sgd']", "[]"], done.stderr


def check(project, *arguments: str) -> dict[str, str]:
    """What `check` says of each notebook."""
    done = subprocess.run(
        [sys.executable, "-m", "bpfree_common", "check", *arguments],
        env=project.environment(),
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    fresh = all(words.startswith("up to date") for words in said.values())
    assert done.returncode == (0 if fresh else 1)
    return said


def test_an_edit_of_the_notebook_during_its_run_is_noticed_and_undone(project):
    body = """
    path = Path(os.environ["BPFREE_NOTEBOOKS"], "one.ipynb")
    path.write_text(path.read_text().replace("print(", "print(7, "))
    """
    path = project.add("one", body)
    before = path.read_text()
    assert project.run("one").returncode == 0
    assert path.read_text() != before
    assert check(project) == {"one": "changed: notebook"}
    path.write_text(before)
    assert check(project) == {"one": "up to date"}


def test_equal_runs_give_equal_files(project):
    project.add("one")
    folder, kept = project.reports / "quick" / "one", []
    for _ in range(2):
        assert project.run("one", "--force").returncode == 0
        kept.append([(folder / n).read_bytes() for n in ("one.ipynb", "record.json")])
    assert kept[0] == kept[1]


def test_a_damaged_record_stops_its_own_notebook_only(project):
    for slug in ("one", "two"):
        project.add(slug)
    assert project.run().returncode == 0
    (project.reports / "quick" / "one" / "record.json").write_text("{")
    said = check(project)
    assert "is not valid" in said["one"]
    assert said["two"] == "up to date"
    done = project.run()
    assert done.returncode == 0
    assert "up to date: two" in done.stdout
    assert check(project) == {"one": "up to date", "two": "up to date"}


def test_a_folder_without_a_record_is_no_report_and_is_filled(project):
    project.add("tiny")
    (project.reports / "quick" / "tiny").mkdir(parents=True)
    assert "its record is missing" in check(project)["tiny"]
    assert project.run().returncode == 0
    assert check(project)["tiny"] == "up to date"


def test_a_report_of_more_threads_is_told(project):
    path = project.add("one", "environment = {'threads': 2}")
    content = json.loads(path.read_text())
    last = content["cells"][-1]
    assert '"environment": {}' in last["source"]
    last["source"] = last["source"].replace(
        '"environment": {}', '"environment": environment'
    )
    path.write_text(json.dumps(content))
    assert project.run("one").returncode == 0
    assert check(project) == {"one": "made with 2 threads"}


PAGE = PARAMETERS + 'profile: str = "quick"  # quick, standard | profile\n'


def add_paper_and_page(project) -> None:
    """A paper, and a page that depends on its record."""
    project.add("paper")
    folder = project.notebooks / "forward_only"
    folder.mkdir()
    (project.notebooks / "paper.ipynb").rename(folder / "paper.ipynb")
    code = "import os\nfrom pathlib import Path\nfrom bpfree_common import records\n"
    finish = FINISH.format(slug="page").replace(
        '"word": word}', '"word": word, "profile": profile}'
    )
    cells = [cell(PAGE, "parameters"), cell(code + finish)]
    content = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (project.notebooks / "page.ipynb").write_text(json.dumps(content))
    (project.notebooks / "papers.yaml").write_text(
        "page: {title: page, short: page, reads_records: true}\n"
        "paper: {title: paper, short: paper, family: forward_only}\n"
    )


def test_a_page_depends_on_the_records_it_reads_with_their_times(project, tmp_path):
    add_paper_and_page(project)
    other = tmp_path / "elsewhere"
    where = ("--reports", str(other))
    assert project.run(*where).returncode == 0
    assert check(project, *where) == {"page": "up to date", "paper": "up to date"}
    folder = other / "quick" / "paper"
    record = json.loads((folder / "record.json").read_text())
    record["timing"] = {"step_time_ratio": {"paper": 0.001}}
    (folder / "record.json").write_text(json.dumps(record))
    said = check(project, *where)
    assert said["page"] == "changed: records"
    assert said["paper"].startswith("times in the record or the notebook were changed")
    records.seal(folder / "record.json", folder / "paper.ipynb")
    assert check(project, *where) == {"page": "changed: records", "paper": "up to date"}


# --- confirmation -----------------------------------------------------------------------

TOY = """
N = 3
def used(x):
    return x + N
def large_only(x):
    return x
"""
USE = """
from bpfree_common.learning.toy import large_only, used
print(used(number))
if number > 5: print(large_only(number))
"""


class Repository:
    """A copy of the project with one paper of two profiles, as a git repository."""

    def __init__(self, root: Path):
        self.root, self.cache = root / "project", root / "cache"
        self.root.mkdir()
        hidden = shutil.ignore_patterns("__pycache__")
        shutil.copytree(paths.LABORATORY, self.root / "bpfree_common", ignore=hidden)
        shutil.copy(paths.LOCK, self.root)
        folder = self.root / "notebooks" / "forward_only"
        folder.mkdir(parents=True)
        code = "import os\nfrom pathlib import Path\nfrom bpfree_common import records\n"
        texts = [code + "records.start('paper')" + USE, FINISH.format(slug="paper")]
        cells = [cell(PARAMETERS, "parameters"), *map(cell, texts)]
        content = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        (folder / "paper.ipynb").write_text(json.dumps(content))
        (folder.parent / "papers.yaml").write_text(
            "paper: {title: paper, short: paper, family: forward_only, "
            "profiles: {standard: {number: 9}}}\n"
        )
        (self.root / ".gitignore").write_text("__pycache__/\nreports/\n")
        self.git("init", "--quiet", "--initial-branch=main")
        self.first = self.commit(TOY)
        done = self.python("run", "paper", "--profile", "standard", "--jobs", "1")
        assert done.returncode == 0, done.stdout + done.stderr

    def git(self, *arguments: str) -> str:
        who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        return subprocess.run(
            ["git", *who, *arguments],
            cwd=self.root,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    def commit(self, toy: str) -> str:
        (self.root / "bpfree_common" / "learning" / "toy.py").write_text(toy)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "a change")
        return self.git("rev-parse", "HEAD")

    def python(self, *arguments: str) -> subprocess.CompletedProcess:
        environment = {k: v for k, v in os.environ.items() if k != "BPFREE_REPORTS"}
        environment |= {"PYTHONPATH": str(self.root), "BPFREE_CACHE": str(self.cache)}
        return subprocess.run(
            [sys.executable, "-m", "bpfree_common", *arguments],
            cwd=self.root,
            env=environment,
            capture_output=True,
            text=True,
        )

    def confirm(self, remake: int = 0) -> str:
        options = ("--since", self.first, "--remake", str(remake), "--jobs", "1")
        done = self.python("confirm", *options)
        assert done.stderr == ""
        return done.stdout.strip()

    def check(self) -> str:
        return self.python("check", "--profile", "standard").stdout.strip()

    @property
    def file(self) -> Path:
        return self.root / "reports" / "standard" / "paper" / "confirmed.json"


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    return Repository(tmp_path_factory.mktemp("repository"))


def test_a_change_that_quick_ran_and_that_changes_nothing_is_confirmed(repository):
    new = repository.commit(TOY.replace("x + N", "N + x"))
    assert repository.check() == "paper: changed: laboratory (learning.toy.used)"
    assert repository.confirm() == "paper: confirmed"
    assert new[:7] in repository.check()
    assert repository.check().startswith("paper: up to date (made by ")
    found = json.loads(repository.file.read_text())
    assert (found["old"]["revision"], found["new"]["revision"]) == (repository.first, new)
    assert "large_only" in found["hashes"]["laboratory"]["learning.toy"]
    assert len(repository.git("worktree", "list").splitlines()) == 1
    # what is confirmed may not change again, not even what only large runs execute
    repository.commit(
        TOY.replace("x + N", "N + x").replace("return x\n", "return 2 * x\n")
    )
    assert repository.check().startswith("paper: changed: laboratory")
    repository.commit(TOY)
    assert repository.check() == "paper: up to date"


def test_a_job_that_the_older_commit_does_not_know_stops_no_confirmation(repository):
    entries = repository.root / "notebooks" / "papers.yaml"
    before = entries.read_text()
    late = "late: {title: l, short: l, family: forward_only, notebook: paper, "
    late += "profiles: {standard: {}}, jobs: {a: {word: b}}}\n"
    entries.write_text(before + late)
    repository.commit(TOY.replace("x + N", "N + x"))
    paper, job = repository.confirm().splitlines()
    assert paper == "paper: confirmed"
    assert job.startswith("late-a: not confirmed: ")
    assert job.endswith("itself does not call this report up to date")
    entries.write_text(before)
    repository.commit(TOY)


def test_a_change_that_changes_quick_is_not_confirmed(repository):
    repository.commit(TOY.replace("x + N", "x - N"))
    assert repository.confirm().startswith("paper: not confirmed: quick differs: cell 2")


@pytest.mark.parametrize(
    ("shown", "same"),
    [
        ("*Compare with*: [A](a.ipynb), [B](b.ipynb).\n\n91 %", True),
        ("*Compare with*: [A](a.ipynb), `b`.\n\n92 %", False),
        ("*Compared with*: [A](a.ipynb).\n\n91 %", False),
    ],
    ids=["a link more", "a number", "another line"],
)
def test_where_a_card_leads_is_no_difference_between_two_runs(tmp_path, shown, same):
    for name, text in (
        ("one", "*Compare with*: [A](a.ipynb), `b`.\n\n91 %"),
        ("two", shown),
    ):
        folder = tmp_path / name
        folder.mkdir()
        card = {"output_type": "display_data", "data": {"text/markdown": text}}
        cell = {"cell_type": "code", "source": "", "metadata": {}, "outputs": [card]}
        content = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        (folder / "paper.ipynb").write_text(json.dumps(content))
        shutil.copy(paths.PROJECT / "reports/standard/comq/record.json", folder)
    assert (replay.differences(tmp_path / "one", tmp_path / "two") == []) is same


def test_a_changed_function_that_quick_does_not_run_is_not_confirmed(repository):
    repository.commit(TOY.replace("return x\n", "return +x\n"))
    said = "changed, and not executed by quick: learning.toy.large_only"
    assert repository.confirm() == f"paper: not confirmed: {said}"


COVERED = """
M = 2
def make():
    return 1
TABLE = {"a": M}
MADE = make()
class Plan:
    size = 1
    def grow(self): return self.size
class Large(Plan):
    def shrink(self): return 0
def reads(): return TABLE
def reads_made(): return MADE
def bystander(): return 0
"""


@pytest.mark.parametrize(
    ("old", "new", "asked"),
    [
        ("M = 2", "M = 3", ["reads"]),
        ("return 1", "return 2", ["make", "reads_made"]),
        ("size = 1", "size = 2", ["Large.shrink", "Plan.grow"]),
        ("return 0\ndef reads(", "return 9\ndef reads(", ["Large.shrink"]),
        ("def bystander(): return 0", "", []),  # who called it would have changed
    ],
)
def test_a_change_asks_for_a_run_of_all_that_it_can_reach(old, new, asked):
    assert COVERED.count(old) == 1
    before, after = units(COVERED), units(COVERED.replace(old, new))
    laboratories = ({"toy": before}, {"toy": after})
    standard = {"toy": set(before.functions)}
    changes = Changes(*laboratories, {"toy": {}})
    assert changes.untested(standard) == [f"toy.{name}" for name in asked]
    changes = Changes(*laboratories, {"toy": dict.fromkeys(asked, "")})
    assert changes.untested(standard) == []


def test_a_constant_asks_for_those_of_its_users_alone_that_the_standard_run_executed():
    before, after = units(COVERED), units(COVERED.replace("M = 2", "M = 3"))
    changes = Changes({"toy": before}, {"toy": after}, {"toy": {}})
    assert changes.untested({"toy": {"make"}}) == []
    assert changes.untested({"toy": {"make", "reads"}}) == ["toy.reads"]


def test_a_name_that_is_bound_is_not_one_that_is_used():
    """A field `budget` of a class does not make the class of a function `budget`."""
    toy = "def budget(): return 1\nclass Held:\n    budget: int\n    made = budget()\n"
    made = units(toy).words["Held"]
    assert "budget" in made
    bound = units(toy.replace("= budget()", "= 2")).words["Held"]
    assert "budget" not in bound


def test_a_changed_statement_outside_functions_is_never_confirmed():
    before, after = units("for a in b: c()\n"), units("for a in b: d()\n")
    changes = Changes({"toy": before}, {"toy": after}, {"toy": {}})
    assert changes.untested({"toy": set()}) == ["toy, outside its functions"]


def test_a_remade_report_that_differs_revokes_the_confirmation(repository):
    repository.commit(TOY.replace("return x + N", "return x + N + (x > 5)"))
    assert repository.confirm() == "paper: confirmed"
    assert repository.file.is_file()
    said = repository.confirm(remake=1)
    assert said.startswith("paper: not confirmed: revoked: paper, remade, differs (cell ")
    assert not repository.file.exists()


def test_a_confirmation_is_between_commits_only(repository):
    repository.commit(TOY)
    toy = repository.root / "bpfree_common" / "learning" / "toy.py"
    toy.write_text(TOY + "# not committed\n")
    done = repository.python("confirm", "--since", repository.first)
    toy.write_text(TOY)
    assert done.returncode == 2
    assert done.stderr.startswith("error: commit your changes first")
    done = repository.python("confirm", "--since", "no-such-commit")
    assert done.returncode == 2
    assert done.stderr.startswith("error: git rev-parse: ")
