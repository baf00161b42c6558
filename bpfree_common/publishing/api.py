"""The laboratory's interface as pages: signatures and docstrings, read and never run.

The modules are parsed, not imported, so that the site needs no PyTorch and runs nothing.
"""

import ast
from pathlib import Path

from bpfree_common import paths

#: Rooms of the laboratory in the order of its arrows, which point one way.
ROOMS = {
    "data": "Data: files with checksums, and the tasks made of them",
    "learning": "Learning: what a rule is and how it trains",
    "measuring": "Measuring: cost, and the credit audit",
    "papers": "Papers: the catalogue, notebooks as data and as modules",
    "records": "Records: what a run leaves behind, and whether it still holds",
    "studies": "Studies: tuner, statistics, claims, figures, the overview",
    "running": "Running: notebooks executed in parallel and published whole",
    "publishing": "Publishing: the claim atlas and this site",
}
_FENCE = "`" * 8
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def page(room: str) -> str:
    """The page of one room, in MyST Markdown."""
    folder = paths.LABORATORY / room
    parts = [f"# {ROOMS[room]}"]
    for path in sorted(folder.glob("*.py")):
        parts += _module(path, f"bpfree_common.{room}")
    return "\n\n".join(parts) + "\n"


def _module(path: Path, package: str) -> list[str]:
    name = package if path.stem == "__init__" else f"{package}.{path.stem}"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    members = [node for node in tree.body if _public(node)]
    if path.stem == "__init__" and not members:
        return [ast.get_docstring(tree) or ""]
    head = [f"## {name.partition('.')[2]}", f"{_FENCE}{{py:module}} {name}\n{_FENCE}"]
    head += [ast.get_docstring(tree) or ""]
    return head + [_member(node) for node in members]


def _public(node: ast.stmt) -> bool:
    """Whether it is a function or class without an underscore and with a docstring."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return (
        isinstance(node, kinds)
        and not node.name.startswith("_")
        and ast.get_docstring(node) is not None
    )


def _member(node: ast.stmt) -> str:
    if isinstance(node, ast.ClassDef):
        inner = [_method(each) for each in node.body if _public(each)]
        body = [ast.get_docstring(node) or "", *inner]
        return _directive("py:class", node.name + _constructed(node), "\n\n".join(body))
    return _directive("py:function", _signature(node), ast.get_docstring(node) or "")


def _method(node: _Function) -> str:
    """A method of a class; a property has no brackets."""
    marks = {ast.unparse(each).rpartition(".")[2] for each in node.decorator_list}
    if marks & {"property", "cached_property"}:
        kind, shown = "py:property", node.name
    else:
        kind, shown = "py:method", _signature(node, bound="staticmethod" not in marks)
    return _directive(kind, shown, ast.get_docstring(node) or "", len(_FENCE) - 2)


def _constructed(node: ast.ClassDef) -> str:
    """What the class is called with, if it says so itself."""
    for each in node.body:
        if isinstance(each, ast.FunctionDef) and each.name == "__init__":
            return (
                _signature(each, bound=True).removeprefix("__init__").partition(" ->")[0]
            )
    return ""


def _signature(node: _Function, bound: bool = False) -> str:
    """`name(arguments) -> result`, on one line."""
    arguments = node.args
    if bound:
        first = arguments.posonlyargs or arguments.args
        del first[:1]
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{node.name}({ast.unparse(arguments)}){result}"


def _directive(kind: str, signature: str, body: str, ticks: int = len(_FENCE)) -> str:
    fence = "`" * ticks
    return f"{fence}{{{kind}}} {signature}\n{body}\n{fence}"
