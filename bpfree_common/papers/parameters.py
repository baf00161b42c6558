"""The `parameters` cell: typed scalars whose ranges stand beside them.

Every line of the cell reads ``name: type = literal  # range | help``, for example::

    dataset: str = "digits"  # digits, mnist5k, mnist | the images
    lr: float = 2e-3  # 1e-6..1 | Adam step size

The range is ``low..high`` for numbers, a comma-separated list for strings, and may be
left out for booleans. It is the only place where a parameter is declared.
"""

import ast
import io
import math
import re
import tokenize
from dataclasses import dataclass

from bpfree_common.errors import CatalogueError, ParameterError, choices, short

TYPES = {"int": int, "float": float, "str": str, "bool": bool}


@dataclass(frozen=True)
class Parameter:
    """One declared parameter: its type, default, range and one line of help."""

    name: str
    type: str
    default: object
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] | None = None
    help: str = ""

    def check(self, value):
        """Return `value` in the declared type, or raise ParameterError."""
        value = self._typed(value)
        if self.low is not None and not self.low <= value <= self.high:
            raise ParameterError(
                f"parameter {self.name}={short(value)} is out of range: "
                f"choose a value from {self.low:g} to {self.high:g}"
            )
        if self.choices is not None and value not in self.choices:
            raise ParameterError(
                f"parameter {self.name}={short(value)} is not one of: "
                + ", ".join(self.choices)
            )
        return value

    @property
    def limits(self) -> str:
        """The values that `check` allows, as text."""
        if self.choices is not None:
            return ", ".join(self.choices)
        return "True, False" if self.low is None else f"{self.low:g}..{self.high:g}"

    def _typed(self, value):
        wanted = TYPES[self.type]
        if wanted is float and type(value) is int:
            return _as_float(value)
        if type(value) is not wanted:
            raise ParameterError(
                f"parameter {self.name}={short(value)} is a {type(value).__name__}, "
                f"but {self.name} takes {self.type}"
            )
        return value


def parse(source: str, where: str = "the parameters cell") -> dict[str, Parameter]:
    """Read the declarations of a parameters cell, in order.

    where: what to call the cell. Raises CatalogueError, naming cell and line, when a
    line is anything but ``name: type = literal`` with a range that holds the literal.
    """
    found: dict[str, Parameter] = {}
    comments, nodes = _read(source, where)
    for node in nodes:
        place = f"{where}, line {node.lineno}"
        try:
            parameter = _declared(node, comments.get(node.lineno, ""))
            parameter.check(parameter.default)
        except (_Slip, ParameterError) as error:
            raise CatalogueError(f"{place}: {error}") from None
        if parameter.name in found:
            raise CatalogueError(f"{place}: {parameter.name} is declared a second time")
        found[parameter.name] = parameter
    return found


def literal(text: str):
    """The Python literal that `text` is. Raises ValueError when it is none."""
    try:
        return ast.literal_eval(text)
    # what Python itself says of too deep, too long and unhashable literals
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"{short(text)} is no literal") from error


def resolve(declared: dict[str, Parameter], overrides: dict) -> dict:
    """Defaults updated by `overrides`, each checked. Raises ParameterError."""
    unknown = sorted(set(overrides) - set(declared))
    if unknown:
        raise ParameterError(
            f"unknown parameter {short(unknown[0])}: {choices(unknown[0], declared)} "
            f"(this notebook takes {', '.join(declared)})"
        )
    values = {name: p.default for name, p in declared.items()} | overrides
    return {name: declared[name].check(value) for name, value in values.items()}


class _Slip(Exception):
    """What is wrong with a line, as the end of a sentence."""


def _read(source: str, where: str) -> tuple[dict[int, str], list[ast.stmt]]:
    """Comments by line, and statements. Raises CatalogueError for what is no Python."""
    try:
        nodes = ast.parse(source).body
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except SyntaxError as error:
        raise CatalogueError(f"{where}, line {error.lineno}: {error.msg}") from None
    except (ValueError, MemoryError, RecursionError, tokenize.TokenError) as error:
        raise CatalogueError(f"{where} cannot be read: {short(str(error))}") from None
    comments = {
        t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT
    }
    return comments, nodes


def _declared(node: ast.stmt, comment: str) -> Parameter:
    """The parameter that a statement and the comment in its line declare."""
    if not (
        isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and isinstance(node.annotation, ast.Name)
        and node.annotation.id in TYPES
        and node.value is not None
    ):
        raise _Slip("write `name: type = literal  # range | help`")
    name, kind = node.target.id, node.annotation.id
    try:
        default = ast.literal_eval(node.value)
    except (ValueError, TypeError, MemoryError, RecursionError):
        raise _Slip(f"the default of {name} is no literal") from None
    spec, _, text = comment.partition("|")
    return Parameter(name, kind, default, *_limits(spec.strip(), kind), text.strip())


def _limits(spec: str, kind: str):
    """(low, high, choices) from the part of the comment before the bar."""
    if kind == "bool":
        return None, None, None
    if kind == "str":
        names = tuple(part.strip() for part in spec.split(",") if part.strip())
        if names:
            return None, None, names
    elif match := re.fullmatch(r"(\S+?)\.\.(\S+)", spec):
        try:
            return float(match[1]), float(match[2]), None
        except ValueError:
            raise _Slip(f"{spec} is no range of numbers") from None
    raise _Slip("the parameter needs its range in the comment")


def _as_float(value: int) -> float:
    """The nearest float; infinite, and so out of every range, where there is none."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
