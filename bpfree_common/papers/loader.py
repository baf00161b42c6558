"""A notebook as a module: the cells tagged `rule`, importable and with tracebacks.

A rule that builds on another paper's takes it from that paper's notebook::

    paper = load_rule("the_other_paper")
    rule = paper.TheirRule(...)
"""

import linecache
import sys
from pathlib import Path
from types import ModuleType

from bpfree_common.errors import CatalogueError
from bpfree_common.papers import catalogue, notebook

PREFIX = "bpfree_papers"


def load_rule(slug: str) -> ModuleType:
    """The module of a paper's rule cells; loaded once per process."""
    name = f"{PREFIX}.{slug}"
    if name not in sys.modules:
        sys.modules.setdefault(PREFIX, ModuleType(PREFIX))
        sys.modules[name] = build(catalogue.get(slug).path, name)
    return sys.modules[name]


def build(path: Path, name: str, replace: tuple[str, str] | None = None) -> ModuleType:
    """A fresh module from the rule cells of the notebook at `path`.

    replace: (old, new) text, applied to the rule cells; `old` must occur exactly once.
    """
    cells = notebook.tagged(notebook.read(path), "rule")
    if not cells:
        raise CatalogueError(f"{path} has no code cell tagged 'rule'")
    if replace is not None:
        cells = _replaced(cells, *replace, path)
    module = ModuleType(name, f"Rule cells of {path.name}")
    module.__file__ = str(path)
    sys.modules[name] = module
    try:
        run_cells(cells, path, module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def run_checks(path: Path, module: ModuleType) -> None:
    """Run the cells tagged `check` in `module`, which then must hold only the rule."""
    run_cells(notebook.tagged(notebook.read(path), "check"), path, module)


def run_cells(cells: list[tuple[int, str]], path: Path, module: ModuleType) -> None:
    """Execute cells in the namespace of `module`; tracebacks show their lines."""
    for index, text in cells:
        file = f"{path}#cell-{index}"
        linecache.cache[file] = (len(text), None, text.splitlines(True), file)
        exec(compile(text, file, "exec"), module.__dict__)


def _replaced(cells, old: str, new: str, path: Path):
    count = sum(text.count(old) for _, text in cells)
    if count != 1:
        raise CatalogueError(
            f"{path.name}: the rule cells contain {old!r} {count} times, not once"
        )
    return [(index, text.replace(old, new)) for index, text in cells]
