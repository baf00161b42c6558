"""A module as units of code, and a digest of each that every Python version agrees on.

A unit is what can change by itself: a function or method (with its signature, decorators
and everything inside), the rest of a class, a name bound at module level, and the
remaining statements of the module together (`""`). Comments, docstrings and layout do
not count, nor does where a module of the laboratory is imported from.
"""

import ast
import builtins
import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache

PACKAGE = "bpfree_common"

#: Fields of syntax trees that say nothing of what the code does.
_SILENT = {"ctx", "kind", "type_comment", "type_ignores"}


@dataclass(frozen=True)
class Units:
    """The units of one module by qualified name, 16 hex digits each.

    functions: what counts once it was called. bindings: what acts when the module is
    imported: classes without their methods, constants, imports, other statements.
    imports: local name -> where in the laboratory it comes from, as "room.module" or
    "room.module:name". words: the identifiers that each unit uses, to find who
    may call whom.
    """

    functions: dict[str, str]
    bindings: dict[str, str]
    imports: dict[str, str]
    words: dict[str, frozenset[str]]

    @property
    def all(self) -> dict[str, str]:
        """Functions and bindings together."""
        return self.bindings | self.functions


@lru_cache(maxsize=512)
def units(source: str) -> Units:
    """The units of a module's source. Raises SyntaxError where Python does."""
    tree = without_docstrings(ast.parse(source))
    functions: dict[str, list[ast.AST]] = {}
    bindings: dict[str, list] = {"": []}
    imports: dict[str, str] = {}
    for statement in tree.body:
        _sort(statement, functions, bindings, imports)
    shadowed = sorted(filter(_is_builtin, {*functions, *bindings, *imports}))
    words = {
        name: frozenset().union(*map(_words, nodes))
        for name, nodes in (functions | bindings).items()
    }
    bindings[""].append(shadowed)
    return Units(
        {name: _digest(nodes) for name, nodes in functions.items()},
        {name: _bound(nodes) for name, nodes in bindings.items() if name != "__all__"},
        imports,
        words,
    )


def _is_builtin(name: str) -> bool:
    """Whether Python itself has this name; IPython adds some that do not count."""
    return getattr(getattr(builtins, name, None), "__module__", None) == "builtins"


def without_docstrings(tree: ast.Module) -> ast.Module:
    """The tree, its docstrings taken away."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            node.body = body[1:]
    return tree


def _is_text(node: ast.AST) -> bool:
    value = getattr(node, "value", None) if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _sort(statement, functions: dict, bindings: dict, imports: dict) -> None:
    """Put one statement of a module where it belongs."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        functions.setdefault(statement.name, []).append(statement)
    elif isinstance(statement, ast.ClassDef):
        rest = _class(statement, statement.name, functions, bindings)
        bindings.setdefault(statement.name, []).append(rest)
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        _imported(statement, bindings, imports)
    elif entries := _table(statement):
        bindings.update(entries)
    elif names := _assigned(statement):
        for name in names:
            bindings.setdefault(name, []).append(statement)
    else:
        bindings[""].append(statement)


def _class(node: ast.ClassDef, name: str, functions: dict, bindings: dict) -> list:
    """Sort the methods of a class; what is left of it, and which methods it has."""
    rest = [node.name, *node.bases, *node.keywords, *node.decorator_list]
    for part in node.body:
        inner = f"{name}.{getattr(part, 'name', '')}"
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
            functions.setdefault(inner, []).append(part)
            rest.append(f"def {part.name}")  # a new method may override another's
        elif isinstance(part, ast.ClassDef):
            left = _class(part, inner, functions, bindings)
            bindings.setdefault(inner, []).append(left)
            rest.append(f"class {part.name}")
        else:
            rest.append(part)
    return rest


def _imported(statement, bindings: dict, imports: dict) -> None:
    """Each imported name by itself; the laboratory's own by where they come from."""
    module = getattr(statement, "module", None) or ""
    for alias in statement.names:
        whole = f"{module}.{alias.name}" if module else alias.name
        bound = alias.asname or alias.name.partition(".")[0]
        if whole.split(".")[0] == PACKAGE and isinstance(statement, ast.ImportFrom):
            room = module.removeprefix(PACKAGE).removeprefix(".")
            imports[bound] = f"{room}:{alias.name}"
        else:
            bindings.setdefault(bound, []).append(f"import {whole}")


def _table(statement) -> dict[str, list]:
    """The entries of `_HOME`, a package's list of where its names are, one by one."""
    if _assigned(statement) != ["_HOME"] or not isinstance(statement.value, ast.Dict):
        return {}
    pairs = zip(statement.value.keys, statement.value.values, strict=True)
    return {f"_HOME[{key.value}]": [value] for key, value in pairs}


def _assigned(statement) -> list[str]:
    """The names that an assignment binds, or none if it does anything else."""
    targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
    if not isinstance(statement, ast.Assign | ast.AnnAssign):
        return []
    if all(isinstance(target, ast.Name) for target in targets):
        return [target.id for target in targets]
    flat = [each for t in targets for each in getattr(t, "elts", [t])]
    return [t.id for t in flat] if all(isinstance(t, ast.Name) for t in flat) else []


def _words(node) -> frozenset[str]:
    """Every identifier and string that a piece of code uses, annotations left out."""
    if isinstance(node, list):
        return frozenset().union(*map(_words, node))
    if isinstance(node, str):  # which methods a class has, which is not what it calls
        return frozenset() if node[:4] in ("def ", "clas") else frozenset([node])
    found = set()
    for each in _walk(node):
        if isinstance(getattr(each, "ctx", None), ast.Store) and hasattr(each, "id"):
            continue  # a name that is bound is not used by that
        values = [value for _, value in ast.iter_fields(each)]
        found |= {value for value in values if isinstance(value, str)}
    return frozenset(found)


def _walk(node):
    """The nodes of a tree but for annotations, which are never called."""
    yield node
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns"):
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, ast.AST):
                    yield from _walk(each)


def _bound(nodes: list) -> str:
    """Imports as they are written, so that a lost one is recognised; else a digest."""
    if nodes and all(isinstance(each, str) for each in nodes):
        return "; ".join(nodes)
    return _digest(nodes)


def _digest(nodes) -> str:
    return digest16(plain(nodes))


def digest16(value) -> str:
    """16 hex digits of a value that JSON can hold."""
    text = json.dumps(value, ensure_ascii=True, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def plain(node):
    """A syntax tree as lists, the same in Python 3.11 to 3.14.

    Versions differ in fields that are empty (`type_params`) and in how they cut the
    text of f-strings: empty fields are left out, pieces of text are joined.
    """
    if isinstance(node, list):
        return [plain(each) for each in node]
    if isinstance(node, ast.Constant):
        return [type(node.value).__name__, repr(node.value)]
    if isinstance(node, ast.JoinedStr):
        return ["JoinedStr", _joined(node.values)]
    if not isinstance(node, ast.AST):
        return node
    fields = []
    for name in sorted(node._fields):
        value = getattr(node, name, None)
        if name not in _SILENT and value is not None and value != []:
            fields.append([name, plain(value)])
    return [type(node).__name__, fields]


def _joined(values: list) -> list:
    """The parts of an f-string, neighbouring pieces of text as one."""
    parts: list = []
    for value in values:
        if not isinstance(value, ast.Constant):
            parts.append(plain(value))
        elif parts and isinstance(parts[-1], str):
            parts[-1] += value.value
        elif value.value:
            parts.append(value.value)
    return parts
