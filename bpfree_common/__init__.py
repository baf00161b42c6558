"""The laboratory: everything the papers share, and no paper's rule.

Importing this package is cheap. Names that need PyTorch are imported on first use,
so that the runner can decide in milliseconds that nothing is stale.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOME = {
    "Study": "study",
    "LearningRule": "rule",
    "Backprop": "baselines",
    "Frozen": "baselines",
    "adam": "optim",
    "adamw": "optim",
    "sgd": "optim",
    "mlp": "networks",
    "cnn": "networks",
    "gcn": "networks",
    "GraphConv": "networks",
    "LabelledLinear": "networks",
    "TaughtLinear": "networks",
    "load_data": "data",
    "load_graph": "data",
    "knn_graph": "data",
    "load_text": "sequences",
    "load_speech": "sequences",
    "load_photo": "scenes",
    "load_views": "scenes",
    "load_ratings": "ratings",
    "identity": "checks",
    "load_rule": "loader",
    "cosine": "alignment",
    "fit": "training",
    "lr_grid": "training",
}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    """Import ``name`` from its module on first use (PEP 562)."""
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
