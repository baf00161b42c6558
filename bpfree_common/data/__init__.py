"""Data sets: files with checksums, and the tasks that are made of them."""

from importlib import import_module

_HOME = {
    "Data": "tasks",
    "Graph": "tasks",
    "load_data": "tasks",
    "load_graph": "tasks",
    "knn_graph": "tasks",
    "random_split": "tasks",
    "load_text": "sequences",
    "load_speech": "sequences",
    "load_photo": "scenes",
    "load_views": "scenes",
    "load_ratings": "ratings",
    "load_cavity": "cavity",
    "load_formants": "cavity",
}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    """Import ``name`` from its module on first use: the runner needs no PyTorch."""
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
