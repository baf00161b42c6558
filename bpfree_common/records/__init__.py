"""Records: what a run leaves behind, and whether it still holds.

``from bpfree_common import records`` gives the functions below; the modules behind them
are loaded on first use.
"""

from importlib import import_module

_HOME = {
    "NAME": "record",
    "folder": "record",
    "load": "record",
    "load_all": "record",
    "check": "record",
    "write": "record",
    "canonical": "record",
    "PLUMBING": "provenance",
    "start": "provenance",
    "hashes": "dependencies",
    "run_hashes": "dependencies",
    "surroundings": "provenance",
    "lock_pins": "provenance",
    "state": "staleness",
    "stale": "staleness",
    "problems": "integrity",
    "seal": "integrity",
}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    """Import ``name`` from its module on first use (PEP 562)."""
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    if name == "notebook":  # whose `digest` makes keys of hashes
        return import_module("bpfree_common.papers.notebook")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
