"""The papers' learning rules as modules, for training loops of your own.

::

    from bpfree_common.rules import the_paper

    rule = the_paper.build_dense([30, 64, 2], adam(3e-3))

In a checkout, a module is made of the rule cells of the paper's notebook when it is
imported. The installed package holds no notebooks, but a module for each paper, written
from the same cells when the package was built. So no other module belongs in this folder.
"""

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pkgutil import iter_modules


def names() -> list[str]:
    """The papers whose rules can be imported from here."""
    if written := [module.name for module in iter_modules(__path__)]:
        return written
    from bpfree_common.papers import catalogue

    return [s for s, entry in catalogue.load().items() if entry.is_paper or entry.own]


def register(name: str) -> None:
    """Let `load_rule` find the module `name` that was written into this package."""
    from bpfree_common.papers.loader import PREFIX

    slug = name.rpartition(".")[2]
    sys.modules.setdefault(f"{PREFIX}.{slug}", sys.modules[name])


def __dir__() -> list[str]:
    return sorted([*globals(), *names()])


class _Notebooks(MetaPathFinder, Loader):
    """Makes a paper's module from its notebook, where none was written."""

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        package, _, slug = name.rpartition(".")
        if package != __name__:
            return None
        known = names()
        if slug not in known:
            from bpfree_common.errors import choices, short

            # without a `name`: Python would replace the sentence by its own
            raise ModuleNotFoundError(
                f"there is no rule {short(slug)}: {choices(slug, known)}"
            )
        return ModuleSpec(name, self)

    def create_module(self, spec: ModuleSpec):
        """The module that `load_rule` gives, under one more name."""
        from bpfree_common.papers.loader import load_rule

        return load_rule(spec.name.rpartition(".")[2])

    def exec_module(self, module) -> None:
        """The cells have run already."""


sys.meta_path.append(_Notebooks())
