"""The quick notebooks of a revision, run by that revision's own runner and laboratory."""

import ast
import json
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from itertools import groupby
from pathlib import Path

from bpfree_common import paths
from bpfree_common.errors import ReportError
from bpfree_common.papers import notebook
from bpfree_common.records import record
from bpfree_common.records.units import plain, units, without_docstrings

#: How replays are run: with all figures in both formats, to compare them too.
OPTIONS = ("--figures", "--threads", "1")

#: What a run reads of a checkout.
PARTS = ("bpfree_common", "notebooks", "requirements.lock")


def git(*arguments: str) -> str:
    """The output of git in the project. Raises ReportError with git's own words."""
    done = subprocess.run(
        ["git", "-C", str(paths.PROJECT), *arguments], capture_output=True, text=True
    )
    if done.returncode:
        raise ReportError(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def revision(name: str) -> str:
    """The full name of a commit. Raises ReportError if there is none."""
    return git("rev-parse", "--verify", f"{name}^{{commit}}")


def trees(commit: str) -> dict[str, str]:
    """git's digests of the parts of a commit that a run reads."""
    return {part: git("rev-parse", f"{commit}:{part}") for part in PARTS}


def file(commit: str, path: str) -> str:
    """A file as it is in a commit."""
    return git("show", f"{commit}:{path}")


@cache
def laboratory(commit: str) -> dict:
    """Module -> units of the laboratory of a commit."""
    files = git("ls-tree", "-r", "--name-only", commit, "bpfree_common/").splitlines()
    found = {}
    for path in files:
        if path.endswith(".py"):
            parts = Path(path).with_suffix("").parts[1:]
            name = ".".join(p for p in parts if p != "__init__")
            found[name] = units(file(commit, path))
    return found


@contextmanager
def checkout(commit: str):
    """A temporary worktree of a commit."""
    root = paths.cache() / "confirm"
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix="tree-") as folder:
        place = Path(folder) / "project"
        git("worktree", "add", "--quiet", "--detach", str(place), commit)
        try:
            yield place
        finally:
            git("worktree", "remove", "--force", str(place))


def surroundings(tree: Path) -> dict[str, str]:
    """The environment of a process that uses the laboratory in `tree`, on one thread."""
    moved = ("BPFREE_NOTEBOOKS", "BPFREE_REPORTS", "BPFREE_RUN_DIR", "BPFREE_PROFILE")
    kept = {k: v for k, v in os.environ.items() if k not in moved}
    return kept | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}


def command(tree: Path, *arguments: str) -> subprocess.CompletedProcess:
    """A command of the laboratory in `tree`, with its own notebooks, on one thread."""
    return subprocess.run(
        [sys.executable, "-m", "bpfree_common", *arguments],
        cwd=tree,
        env=surroundings(tree),
        capture_output=True,
        text=True,
    )


def reports(commit: str, slugs: list[str], jobs: int, profile: str = "quick") -> Path:
    """The folder with reports of `slugs` made by `commit`; only missing ones are run."""
    packages = sorted(f"{d.name}=={d.version}" for d in metadata.distributions())
    key = notebook.digest([trees(commit), packages, sys.version, OPTIONS])[:12]
    folder = paths.cache() / "confirm" / "reports" / key
    missing = [s for s in slugs if not (folder / profile / s / record.NAME).is_file()]
    if missing:
        with checkout(commit) as tree:
            options = ["--jobs", str(jobs), "--profile", profile, "--reports", folder]
            done = command(tree, "run", *missing, *OPTIONS, *map(str, options))
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{profile}.log").write_text(done.stdout + done.stderr)
    return folder


def up_to_date(commit: str, slugs: list[str], profile: str, folder: Path) -> set[str]:
    """Which reports the laboratory of `commit` itself calls up to date.

    A notebook that it does not know yet, or another job of one, has no report there.
    """
    with checkout(commit) as tree:
        listed = json.loads(command(tree, "list", "--json").stdout or "[]")
        known = [slug for slug in slugs if slug in {row["slug"] for row in listed}]
        if not known:
            return set()
        options = ("--profile", profile, "--reports", str(folder))
        said = command(tree, "check", *known, *options).stdout.splitlines()
    return {slug for slug in known if f"{slug}: up to date" in said}


# --- comparing --------------------------------------------------------------------------


def differences(one: Path, two: Path) -> list[str]:
    """What two reports of one notebook say differently, bit for bit, in words.

    Sources of code cells, hashes and times do not count, nor do facts of the environment
    that only one of the records holds, nor where a card leads: that grows with the
    collection and can change no number.
    """
    if missing := [p for p in (one, two) if not (p / record.NAME).is_file()]:
        return [f"{'both do' if len(missing) == 2 else 'one does'} not run"]
    (a, cells_a), (b, cells_b) = _shown(one), _shown(two)
    words = [f"record: {k}" for k in a | b if k != "environment" and a.get(k) != b.get(k)]
    shared = set(a["environment"]) & set(b["environment"])
    words += [
        f"environment: {k}"
        for k in sorted(shared)
        if a["environment"][k] != b["environment"][k]
    ]
    if len(cells_a) != len(cells_b):
        words.append("number of cells")
    pairs = enumerate(zip(cells_a, cells_b, strict=False))
    words += [f"cell {number}" for number, (x, y) in pairs if x != y]
    return words + _figures(one / "figures", two / "figures")


def _shown(folder: Path) -> tuple[dict, list]:
    canonical = record.canonical(record.read(folder / record.NAME))
    (path,) = folder.glob("*.ipynb")
    cells = notebook.canonical(notebook.read(path))["cells"]
    for cell in cells:
        if cell["cell_type"] == "code":
            cell["source"] = ""
            for output in cell["outputs"]:
                _without_links(output.get("data", {}))
    return {k: v for k, v in canonical.items() if k != "hashes"}, cells


def _without_links(data: dict) -> None:
    """Take from an output what a card says of other notebooks."""
    if "text/markdown" in data:
        data["text/markdown"] = notebook.LEADS.sub("", "".join(data["text/markdown"]))


def _figures(one: Path, two: Path) -> list[str]:
    """Figures that differ; a committed report keeps them in its notebook only."""
    if not (one.is_dir() and two.is_dir()):
        return []
    a, b = ({f.name: f.read_bytes() for f in d.iterdir()} for d in (one, two))
    return [f"figure {name}" for name in sorted(a | b) if a.get(name) != b.get(name)]


def same_source(one: str, two: str) -> bool:
    """Whether two notebooks, as JSON, differ in layout and order of imports at most."""
    return _essence(json.loads(one)) == _essence(json.loads(two))


def _essence(content: dict) -> list:
    return [
        [c["cell_type"], notebook.tags(c), _code(notebook.source(c))]
        if c["cell_type"] == "code"
        else [c["cell_type"], notebook.tags(c), notebook.source(c)]
        for c in content["cells"]
    ]


_IMPORTS = (ast.Import, ast.ImportFrom)


def _code(text: str) -> str | list[str]:
    """A cell's code without layout, neighbouring imports in alphabetic order."""
    try:
        body = without_docstrings(ast.parse(text)).body
    except SyntaxError:  # magics
        return text
    found = []
    for imports, group in groupby(body, lambda each: isinstance(each, _IMPORTS)):
        code = [json.dumps(plain(statement)) for statement in group]
        found += sorted(code) if imports else code
    return found
