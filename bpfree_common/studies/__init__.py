"""A study: one notebook's run, its arms, figures, claims and verdicts."""

from importlib import import_module

_HOME = {
    "Study": "study",
    "Comparison": "comparison",
    "Schematic": "schematics",
    "identity": "identities",
    "identities_hold": "identities",
    "estimate": "statistics",
    "paired": "statistics",
    "fixed": "tuning",
}
_MODULES = (
    "at_scale",
    "claims",
    "figures",
    "images",
    "overview",
    "schematics",
    "statistics",
    "tables",
)
__all__ = sorted([*_HOME, *_MODULES])


def __getattr__(name: str):
    """Import ``name`` from its module on first use (PEP 562)."""
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
