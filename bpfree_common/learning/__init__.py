"""What a rule is and how it trains: the contract, networks, optimisers, the loop.

``from bpfree_common.learning import LearningRule, mlp, sgd, fit, opponents`` imports each
name from its module on first use.
"""

from importlib import import_module

_HOME = {
    "LearningRule": "rule",
    "adam": "optim",
    "adamw": "optim",
    "sgd": "optim",
    "GraphConv": "networks",
    "LabelledLinear": "networks",
    "TaughtLinear": "networks",
    "cnn": "networks",
    "gcn": "networks",
    "mlp": "networks",
    "Regularisers": "regularisers",
    "initialise": "initialisation",
    "textbook": "initialisation",
    "textbook_cnn": "initialisation",
    "cosine": "alignment",
    "Run": "training",
    "device": "training",
    "evaluate": "training",
    "fit": "training",
    "lr_grid": "training",
    "train": "training",
}
_MODULES = ("alignment", "networks", "noise", "opponents", "optim", "training")
__all__ = sorted([*_HOME, *_MODULES])


def __getattr__(name: str):
    """Import ``name`` from its module on first use (PEP 562)."""
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
