"""What of the laboratory a process really ran: the sources it compiled, and the calls.

`watch` installs a finder for the laboratory's modules. Each module is compiled from the
very text that is kept here, so that an edit on disk during a run cannot pass for what
was executed; and every function notes its first call by one store into a dictionary
(about 20 ns a call, in every Python version; a profiler costs far more).
"""

import ast
import contextlib
import hashlib
import importlib.util
import marshal
import os
import sys
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path

PACKAGE = "bpfree_common"
MARKS = "__executed__"

#: Module -> the source that was compiled; module -> names of functions that were called.
SOURCES: dict[str, str] = {}
CALLS: dict[str, dict[str, int]] = {}

#: Public names of the package that were asked for -> the module that answered.
NAMES: dict[str, str] = {}


def watch() -> None:
    """From now on, keep what is imported of the laboratory and what is called there."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def calls(module: str) -> dict[str, int]:
    """The notes of one module; its functions write them."""
    return CALLS.setdefault(module, {})


class _Finder:
    """Finds modules of the laboratory as usual, but compiles them here."""

    @staticmethod
    def find_spec(name: str, path=None, target=None):
        if not name.startswith(f"{PACKAGE}."):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    """Compiles a module with notes of its calls; a copy is kept by content."""

    def get_code(self, fullname: str):
        text = self.get_data(self.path)
        module = fullname.partition(".")[2]
        SOURCES[module] = importlib.util.decode_source(text)
        key = _key(text, self.path)
        return _cached(key, self.path) or _compiled(text, key, self.path, module)


def _cache_file(path: str) -> Path:
    return Path(importlib.util.cache_from_source(path, optimization="noted"))


def _key(text: bytes, path: str) -> bytes:
    """What compiled code depends on: Python, this module, the file's place and text."""
    own = Path(__file__).read_bytes()
    parts = hashlib.sha256(b"\0".join([own, __name__.encode(), path.encode(), text]))
    return importlib.util.MAGIC_NUMBER + parts.digest()


def _cached(key: bytes, path: str):
    try:
        kept = _cache_file(path).read_bytes()
        return marshal.loads(kept[len(key) :]) if kept.startswith(key) else None
    except (OSError, ValueError, EOFError, TypeError):
        return None


def _compiled(text: bytes, key: bytes, path: str, module: str):
    code = compile(noted(ast.parse(text, path), module), path, "exec", dont_inherit=True)
    if not sys.dont_write_bytecode:
        file = _cache_file(path)
        part = file.with_name(f".{file.name}.{os.getpid()}")
        with contextlib.suppress(OSError):  # a read-only checkout has no cache
            file.parent.mkdir(exist_ok=True)
            part.write_bytes(key + marshal.dumps(code))
            part.replace(file)
    return code


def compiled_cell(text: str, file: str, module: str):
    """The code of a notebook's cell whose functions note their calls under `module`."""
    return compile(noted(ast.parse(text, file), module), file, "exec", dont_inherit=True)


def noted(tree: ast.Module, module: str) -> ast.Module:
    """The tree with a note at the start of every function and method.

    What is defined inside a function belongs to it and is not noted by itself.
    """
    _note(tree, "")
    text = f"from {__name__} import calls as {MARKS}; {MARKS} = {MARKS}({module!r})"
    place = 1 if ast.get_docstring(tree, clean=False) is not None else 0
    while place < len(tree.body) and _is_future(tree.body[place]):
        place += 1
    tree.body[place:place] = ast.parse(text).body
    return tree


def _is_future(node: ast.AST) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def _note(node: ast.AST, prefix: str) -> None:
    for part in ast.iter_child_nodes(node):
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
            (note,) = ast.parse(f"{MARKS}[{prefix + part.name!r}] = 1").body
            place = 1 if ast.get_docstring(part, clean=False) is not None else 0
            line = part.body[min(place, len(part.body) - 1)]
            for each in ast.walk(note):
                each.lineno = each.end_lineno = line.lineno
                each.col_offset = each.end_col_offset = line.col_offset
            part.body.insert(place, note)
        elif isinstance(part, ast.ClassDef):
            _note(part, f"{prefix}{part.name}.")
        elif isinstance(part, ast.If | ast.Try | ast.With):
            _note(part, prefix)
