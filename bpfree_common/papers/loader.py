"""A notebook as a module: its rule cells, importable and with tracebacks.

Rule cells are those tagged `rule` and, where speed needs another form of the rule that
an identity proves equal, those tagged `fast`; they run in notebook order.

A rule that builds on another paper's takes it from that paper's notebook::

    paper = load_rule("the_other_paper")
    rule = paper.TheirRule(...)
"""

import linecache
import sys
from pathlib import Path
from types import ModuleType

from bpfree_common import executed
from bpfree_common.errors import CatalogueError, IdentityFailed
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
    content = notebook.read(path)
    if not notebook.tagged(content, "rule"):
        raise CatalogueError(f"{path} has no code cell tagged 'rule'")
    cells = notebook.tagged(content, *notebook.RULE)
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
    """Run the cells tagged `check` in `module`, which then must hold only the rule.

    All of them run. Raises IdentityFailed naming every identity that fails; a cell may
    end at its first. What else goes wrong in a cell is raised at once, unless an
    identity failed before it: then the cell may want what an unfinished one defines.
    """
    failed: list[Exception] = []
    for cell in notebook.tagged(notebook.read(path), "check"):
        try:
            run_cells([cell], path, module)
        except IdentityFailed as error:
            failed.append(error)
        except Exception as error:
            if not failed:
                raise
            failed.append(_DidNotRun(f"cell {cell[0]} did not run ({error!r})"))
    if failed:
        raise IdentityFailed("; ".join(map(str, failed))) from failed[0]


class _DidNotRun(Exception):
    """A check cell broke after an identity had failed."""


def run_cells(cells: list[tuple[int, str]], path: Path, module: ModuleType) -> None:
    """Execute cells in the namespace of `module`; tracebacks show their lines."""
    for index, text in cells:
        file = f"{path}#cell-{index}"
        linecache.cache[file] = (len(text), None, text.splitlines(True), file)
        exec(executed.compiled_cell(text, file, module.__name__), module.__dict__)


def _replaced(cells, old: str, new: str, path: Path):
    count = sum(text.count(old) for _, text in cells)
    if count != 1:
        raise CatalogueError(
            f"{path.name}: the rule cells contain {old!r} {count} times, not once"
        )
    return [(index, text.replace(old, new)) for index, text in cells]
