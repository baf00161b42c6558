"""The package without a checkout: what README says of it, run from the built wheel."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bpfree_common import load_rule, paths
from bpfree_common.papers import catalogue, notebook

pytestmark = pytest.mark.skipif(
    not (paths.PROJECT / "setup.py").is_file(), reason="needs a checkout"
)

SOURCES = ("bpfree_common", "notebooks", "pyproject.toml", "setup.py", "MANIFEST.in")
PAPERS = [slug for slug, entry in catalogue.load().items() if entry.is_paper]
OFFLINE = ("-q", "--no-deps", "--no-index", "--disable-pip-version-check")


def pip(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """An empty folder into which the wheel of a copy of this checkout was installed."""
    root = tmp_path_factory.mktemp("wheel")
    for name in (*SOURCES, "README.md", "LICENSE"):
        source, target = paths.PROJECT / name, root / "source" / name
        if source.is_dir():
            skip = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
            shutil.copytree(source, target, ignore=skip)
        else:
            shutil.copy(source, target)
    private = root / "source" / "notebooks" / catalogue.OWN
    private.mkdir(exist_ok=True)
    shutil.copy(paths.NOTEBOOKS / "template.ipynb", private / "secret.ipynb")
    left = root / "source" / "build" / "lib" / "bpfree_common" / "rules"
    left.mkdir(parents=True)
    (left / "long_gone.py").write_text("a paper that an earlier build still held")
    wheels, target = root / "wheels", root / "installed"
    pip("wheel", *OFFLINE, "--no-build-isolation", "-w", str(wheels), f"{root}/source")
    (wheel,) = wheels.glob("*.whl")
    pip("install", *OFFLINE, "--target", str(target), str(wheel))
    return target


def run(installed: Path, folder: Path, code: str) -> str:
    """What `code` prints where only the installed package is found, and no checkout."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("BPFREE_")}
    check = f"import bpfree_common as b; assert b.__file__.startswith({str(installed)!r})"
    (folder / "script.py").write_text(f"{code}\n{check}\n")
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        env=kept | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def example(heading: str) -> str:
    """The code under a heading of README."""
    text = (paths.PROJECT / "README.md").read_text().split(f"\n## {heading}\n")[1]
    (code,) = re.findall(r"```python\n(.*?)```", text.split("\n## ")[0], re.DOTALL)
    return code


# --- what README says -------------------------------------------------------------------


def test_a_rule_learns_foreign_data_in_a_loop_of_ones_own(installed, tmp_path):
    said = run(installed, tmp_path, example("Use a rule in your own loop"))
    accuracy = float(re.fullmatch(r"test accuracy (0\.\d+)\n", said)[1])
    assert accuracy > 0.9, "always saying the larger class gives 0.77"


def test_a_model_of_ones_own_is_audited(installed, tmp_path):
    row = ast.literal_eval(run(installed, tmp_path, example("Audit your own model")))
    assert (row["crossings"], row["locking"]) == (0, "none")
    assert row["weight_transport"] == "none"


def test_backpropagation_in_its_place_is_found_out(installed, tmp_path):
    code, loop = (
        example("Audit your own model"),
        r"    for layer in net:\n(        .*\n)+",
    )
    code, count = re.subn(loop, "    F.cross_entropy(net(h), y).backward()\n", code)
    assert count == 1
    row = ast.literal_eval(run(installed, tmp_path, code))
    assert (row["crossings"], row["locking"]) == (3, "full"), "4 layers, 3 boundaries"
    assert (row["weight_transport"], row["live_memory"]) == ("full", "linear")


# --- the package ------------------------------------------------------------------------

EVERY = """
import pickle
from importlib import import_module
from bpfree_common import load_rule, rules

for name in rules.names():
    module = import_module(f"bpfree_common.rules.{name}")
    assert load_rule(name) is module, name
    kinds = [k for k in vars(module).values() if isinstance(k, type)]
    own = [k for k in kinds if k.__module__ == module.__name__]
    assert own == pickle.loads(pickle.dumps(own)), name
    print(name)
"""


def test_the_package_holds_every_papers_rule_and_no_other(installed, tmp_path):
    said = run(installed, tmp_path, EVERY)
    assert sorted(said.split()) == sorted(PAPERS)
    assert not list(installed.rglob("*.ipynb"))


@pytest.mark.parametrize("slug", PAPERS)
def test_a_written_rule_has_every_line_of_its_cells(installed, slug):
    written = (installed / "bpfree_common" / "rules" / f"{slug}.py").read_text()
    for _, text in notebook.tagged(
        notebook.read(catalogue.get(slug).path), *notebook.RULE
    ):
        assert text.strip() in written


def test_an_unknown_rule_is_answered_with_the_nearest(installed, tmp_path):
    code = """
try:
    from bpfree_common.rules import forward_forwrd
except ImportError as error:
    print(error)
"""
    said = run(installed, tmp_path, code)
    assert said.startswith("there is no rule 'forward_forwrd': did you mean forward_for")


# --- a checkout -------------------------------------------------------------------------


def test_in_a_checkout_a_rule_is_that_of_its_notebook():
    from bpfree_common.rules import forward_forward

    assert forward_forward is load_rule("forward_forward")
    assert not list((paths.LABORATORY / "rules").glob("forward*.py"))


def test_a_name_that_is_no_rule_is_told_in_a_checkout_too():
    with pytest.raises(ImportError, match="no rule 'pepito': did you mean pepita?"):
        from bpfree_common.rules import pepito  # noqa: F401
