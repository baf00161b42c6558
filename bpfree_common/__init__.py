"""The laboratory: everything the papers share, and no paper's rule.

Importing this package is cheap. Names that need PyTorch are imported on first use,
so that the runner can decide in milliseconds that nothing is stale.
"""

from importlib import import_module

from bpfree_common import executed

executed.watch()

__version__ = "0.1.0"

_HOME = {
    "Study": "studies.study",
    "LearningRule": "learning.rule",
    "Backprop": "learning.baselines",
    "Frozen": "learning.baselines",
    "adam": "learning.optim",
    "adamw": "learning.optim",
    "sgd": "learning.optim",
    "mlp": "learning.networks",
    "cnn": "learning.networks",
    "gcn": "learning.networks",
    "GraphConv": "learning.networks",
    "LabelledLinear": "learning.networks",
    "TaughtLinear": "learning.networks",
    "load_data": "data.tasks",
    "load_graph": "data.tasks",
    "knn_graph": "data.tasks",
    "load_text": "data.sequences",
    "load_speech": "data.sequences",
    "load_photo": "data.scenes",
    "load_views": "data.scenes",
    "load_ratings": "data.ratings",
    "identity": "studies.identities",
    "load_rule": "papers.loader",
    "cosine": "learning.alignment",
    "fit": "learning.training",
    "lr_grid": "learning.training",
}
__all__ = sorted(_HOME)


#: Rooms of modules that notebooks call by name: ``from bpfree_common import figures``.
_MODULES = {
    "catalogue": "papers.catalogue",
    "cost": "measuring.cost",
    "figures": "studies.figures",
    "overview": "studies.overview",
    "training": "learning.training",
}


def __getattr__(name: str):
    """Import ``name`` from its module on first use (PEP 562)."""
    if name in _HOME:
        executed.NAMES[name] = f"{_HOME[name]}:{name}"
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    if name in _MODULES:
        executed.NAMES[name] = ":".join(_MODULES[name].rsplit(".", 1))
        return import_module(f"{__name__}.{_MODULES[name]}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
