"""The `parameters` cell: typed scalars whose ranges stand beside them.

Every line of the cell reads ``name: type = literal  # range | help``, for example::

    dataset: str = "digits"  # digits, mnist5k, mnist | the images
    lr: float = 2e-3  # 1e-6..1 | Adam step size

The range is ``low..high`` for numbers, a comma-separated list for strings, and may be
left out for booleans. It is the only place where a parameter is declared.
"""

import ast
import io
import re
import tokenize
from dataclasses import dataclass

from bpfree_common.errors import CatalogueError, ParameterError

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
                f"parameter {self.name}={value!r} is out of range: "
                f"choose a value from {self.low:g} to {self.high:g}"
            )
        if self.choices is not None and value not in self.choices:
            raise ParameterError(
                f"parameter {self.name}={value!r} is not one of: "
                + ", ".join(self.choices)
            )
        return value

    def _typed(self, value):
        wanted = TYPES[self.type]
        if wanted is float and type(value) is int:
            return float(value)
        if type(value) is not wanted:
            raise ParameterError(
                f"parameter {self.name}={value!r} is a {type(value).__name__}, "
                f"but {self.name} takes {self.type}"
            )
        return value


def parse(source: str, where: str = "the parameters cell") -> dict[str, Parameter]:
    """Read the declarations of a parameters cell, in order.

    Raises CatalogueError when a line is anything but ``name: type = literal``.
    """
    comments = _comments(source)
    found = {}
    for node in ast.parse(source).body:
        if not (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and isinstance(node.annotation, ast.Name)
            and node.annotation.id in TYPES
            and node.value is not None
        ):
            raise CatalogueError(
                f"{where}, line {node.lineno}: "
                "write `name: type = literal  # range | help`"
            )
        name, kind = node.target.id, node.annotation.id
        spec, _, text = comments.get(node.lineno, "").partition("|")
        limits = _limits(spec.strip(), kind, name, where)
        default = ast.literal_eval(node.value)
        found[name] = Parameter(name, kind, default, *limits, text.strip())
        found[name].check(default)
    return found


def resolve(declared: dict[str, Parameter], overrides: dict) -> dict:
    """Defaults updated by `overrides`, each checked. Raises ParameterError."""
    unknown = sorted(set(overrides) - set(declared))
    if unknown:
        raise ParameterError(
            f"unknown parameter {unknown[0]!r}: this notebook takes "
            + ", ".join(declared)
        )
    values = {name: p.default for name, p in declared.items()} | overrides
    return {name: declared[name].check(value) for name, value in values.items()}


def _comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT
    }


def _limits(spec: str, kind: str, name: str, where: str):
    """(low, high, choices) from the part of the comment before the bar."""
    if kind == "bool":
        return None, None, None
    if kind == "str":
        choices = tuple(part.strip() for part in spec.split(",") if part.strip())
        if choices:
            return None, None, choices
    elif match := re.fullmatch(r"(\S+?)\.\.(\S+)", spec):
        return float(match[1]), float(match[2]), None
    raise CatalogueError(f"{where}: parameter {name} needs its range in the comment")
