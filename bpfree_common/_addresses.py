"""Addresses that modules had before the rooms, for notebooks that still use them.

``from bpfree_common.training import fit`` keeps working while `training` lives in
`bpfree_common.learning`. A notebook that is taken up again uses the new address.
"""

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec

from bpfree_common import executed

FORMER = {
    "alignment": "learning.alignment",
    "audit": "former.audit",
    "cost": "former.cost",
    "figures": "former.figures",
    "networks": "learning.networks",
    "study": "former.study",
    "training": "learning.training",
}


class _Addresses(MetaPathFinder, Loader):
    """Fills a module of the former name with what the module in its room holds."""

    def find_spec(self, name, path=None, target=None) -> ModuleSpec | None:
        package, _, module = name.rpartition(".")
        known = package == "bpfree_common" and module in FORMER
        return ModuleSpec(name, self) if known else None

    def exec_module(self, module) -> None:
        name = module.__name__.rpartition(".")[2]
        room = FORMER[name]
        executed.NAMES[name] = ":".join(room.rsplit(".", 1))
        found = vars(import_module(f"bpfree_common.{room}"))
        module.__dict__.update({k: v for k, v in found.items() if k[:2] != "__"})


sys.meta_path.append(_Addresses())
