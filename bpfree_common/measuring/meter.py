"""Counts what a training step computes, one tensor operation at a time.

All counts are taken where PyTorch runs its kernels, below automatic differentiation,
`torch.func` and modules. So a rule gets the same numbers whether its gradients are
written by hand or by autograd, and whether it calls its units or multiplies with their
weights.
"""

import math
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from bpfree_common.measuring import flops
from bpfree_common.measuring.live import Births, key, plain
from bpfree_common.measuring.outside import Outside
from bpfree_common.measuring.products import (
    MAJOR,
    MINOR,
    PRODUCTS,
    Product,
    direction,
    products,
)

#: Methods by which numbers leave PyTorch.
EXPORTS = {"numpy", "__array__", "tolist", "__reduce_ex__", "__dlpack__"}
LEAST_EXPORT = 8  #: numbers; fewer are scalars to log

#: Operations that only look at weights from another side, or at their size.
_SILENT = {
    "detach", "alias", "t", "transpose", "view", "_unsafe_view", "expand", "permute",
    "slice", "select", "unsqueeze", "squeeze", "as_strided", "empty_like", "zeros_like",
    "ones_like", "randn_like", "rand_like", "new_empty", "new_zeros", "new_ones",
    "new_full", "full_like", "split", "unbind", "_reshape_alias", "lift_fresh",
    "new_empty_strided", "split_with_sizes", "is_same_size", "set_",
    "_has_same_storage_numel", "isnan", "isinf",
}  # fmt: skip
_ADDED = {"add", "sub", "rsub"}  #: a weight in these is only added
_ADDED_FIRST = {"addmm", "baddbmm", "addmv", "addcmul", "addr"}  #: the first argument is
_COPIES = {"clone", "_to_copy", "copy", "copy_"}
_PARTS = {"index_select", "index", "gather", "narrow_copy"}  #: take some rows or columns


_WHOLE: set = set()  #: operations that PyTorch does not compose of others

#: Modules whose forward pass sums over the later dimensions of weights, or the first.
_MINOR = (nn.Linear, nn.RNNBase, nn.RNNCellBase, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_MAJOR = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def _ways(module: nn.Module) -> dict[int, str]:
    """The forward direction of the weights of PyTorch's own layers."""
    ways = {}
    for part in module.modules():
        way = {_MINOR: MINOR, _MAJOR: MAJOR}
        for kinds, name in way.items():
            if isinstance(part, kinds):
                ways |= {id(p): name for p in part.parameters(recurse=False)}
    return ways


def tensors(given) -> list[Tensor]:
    """All tensors in an operation's arguments or results, however they are nested."""
    if isinstance(given, Tensor):
        return [given]
    if isinstance(given, tuple | list):
        return [t for each in given for t in tensors(each)]
    if isinstance(given, dict):
        return [t for each in given.values() for t in tensors(each)]
    return []


def _spread(p: Tensor) -> float:
    return float(p.detach().double().std(correction=0).clamp_min(0.01))


@dataclass
class Weight:
    """A parameter, its unit, and what the steps did with it."""

    name: str
    unit: int
    shape: tuple[int, ...]
    spread: float  #: standard deviation of its numbers; NaN where nothing is kept
    forward: str = ""  #: the direction of a forward pass; if unknown, of its first use
    seen: bool = False  #: in some product of some step
    lookup: bool = False  #: its rows are looked up
    opaque: bool = False  #: used where it has no null space, as a factor of elements
    rows: dict[str, float] = field(default_factory=lambda: defaultdict(float))


@dataclass(frozen=True)
class Seen:
    """A forward product of a weight: its inputs as rows, and what came out."""

    weight: int
    way: str
    entered: Tensor | None
    left: Tensor


class Meter(TorchDispatchMode):
    """Counts the FLOPs, products with weights and living bytes of training steps.

    units: parameters are known by the unit they belong to.
    keep: whether to keep what goes into forward products, for null spaces (`seen`).
    replays: a list that gets each operation with FLOPs and its arguments, or None.
    Use ``with meter.step():``; counts are of the step that was opened last.
    """

    def __init__(self, units: nn.ModuleList, keep: bool = False, replays=None):
        super().__init__()
        self.keep, self.replays = keep, replays
        self.weights: list[Weight] = []
        #: memory -> (weight, whether it is stored transposed, number of its birth)
        self._known: dict[int, tuple[int, bool, int | None]] = {}
        for unit, module in enumerate(units):
            ways = _ways(module)
            for name, p in module.named_parameters():
                self._known[key(p)] = (len(self.weights), False, None)
                spread = _spread(p) if keep else math.nan
                found = Weight(f"{unit}.{name}", unit, tuple(p.shape), spread)
                found.forward = ways.get(id(p), "")
                self.weights.append(found)
        self._own = set(self._known)
        self.births = Births()
        self._open()

    def _open(self) -> None:
        """Forget the counts of the last step, not what it left behind."""
        self.flops = 0
        self.seen: list[Seen] = []
        self.used: set[tuple[int, str]] = set()  #: (unit, use other than forward)
        self.exports: set[str] = set()
        self.births.begin()
        for weight in self.weights:
            weight.rows.clear()

    def step(self) -> ExitStack:
        """A context for one step: the meter, and what watches the ways out of PyTorch."""
        self._open()
        stack = ExitStack()
        for context in (Outside(self.exports.add), _Exports(self), self):
            stack.enter_context(context)
        return stack

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, packet = kwargs or {}, flops.family(func._overloadpacket)
        if func not in _WHOLE and packet not in flops.flop_registry:
            with self:
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
            _WHOLE.add(func)
        before = {key(t) for t in tensors((args, kwargs))}
        out = func(*args, **kwargs)
        self.flops += (done := flops.count(packet, args, kwargs, out))
        if done and self.replays is not None:
            self.replays.append((func, args, kwargs))
        if packet in PRODUCTS:
            self._follow(packet, args, out)
        for tensor in tensors(out):
            if tensor.layout == torch.strided:
                memory = key(tensor)
                if memory not in before and memory not in self.births.alive:
                    self.births.born(tensor)
        if packet not in PRODUCTS and not self._known.keys().isdisjoint(before):
            self._watch(func, packet.__name__, args, out)
        return out

    def exported(self, name: str, tensor: Tensor) -> None:
        """A tensor leaves PyTorch by the method `name`."""
        self.exports.add(f"hands tensors out of PyTorch (Tensor.{name})")
        self.births.left(tensor)

    def live_bytes(self, rule, optimizers) -> int:
        """Peak of the step, credits and the optimisers' own state excluded; call it once.

        State of an optimiser is its own where it is shaped as its parameter, or a number.
        """
        kept = [p.grad for p in rule.parameters() if p.grad is not None]
        for p, state in ((p, s) for o in optimizers for p, s in o.state.items()):
            for t in state.values():
                if torch.is_tensor(t) and (t.shape == p.shape or t.numel() == 1):
                    kept.append(t)
        self.births.excuse({key(t) for t in kept})
        return self.births.peak()

    def passes(self) -> list[float]:
        """Rows that went forward through each unit: of its weights the most used one."""
        units = [0.0] * (1 + max((w.unit for w in self.weights), default=-1))
        for w in self.weights:
            units[w.unit] = max(units[w.unit], w.rows.get(w.forward, 0.0))
        return units

    def weight_of(self, tensor) -> tuple[int, bool] | None:
        """The weight that a tensor holds or was computed from, and whether transposed."""
        if not torch.is_tensor(tensor):
            return None
        memory = key(tensor)
        index, turned, birth = self._known.get(memory, (None, False, None))
        if index is None or birth not in (None, self.births.alive.get(memory)):
            return None
        return index, turned

    def _follow(self, packet, args, out) -> None:
        """Note every product with a weight."""
        for product in products(packet, args):
            found = self.weight_of(product.weight)
            if found is None or self.weight_of(product.data) is not None:
                continue  # weights times weights are no pass
            weight = self.weights[found[0]]
            way = direction(product, weight.shape, found[1])
            weight.forward = weight.forward or way
            weight.lookup |= product.lookup
            weight.seen = True
            weight.rows[way] += product.rows()
            if way != weight.forward:
                self.used.add((weight.unit, "backward"))
            elif self.keep:
                self._keep(found[0], way, product, out)

    def _keep(self, index: int, way: str, product: Product, out: Tensor) -> None:
        rows = product.matrix()
        rows = None if rows is None else plain(rows.detach()).clone()
        self.seen.append(Seen(index, way, rows, plain(out.detach()).clone()))

    def _watch(self, func, name: str, args, out) -> None:
        """Follow copies of weights; note uses that have no null space."""
        if name in _SILENT or name.startswith(("_foreach", "_fused")):
            return
        if name in ("cat", "stack"):
            for value in args[0]:
                if (found := self.weight_of(value)) and value.dim() > 1:
                    self._remember(out, value, *found)
            return
        given = zip(func._schema.arguments, args, strict=False)
        for place, (arg, value) in enumerate(given):
            found = self.weight_of(value)
            if found is None or (arg.alias_info and arg.alias_info.is_write):
                continue
            weight = self.weights[found[0]]
            added = arg.name == "bias" or name in _ADDED
            added |= place == 0 and name in _ADDED_FIRST
            copied = name in _COPIES or len(weight.shape) > 1
            copied &= torch.is_tensor(out)
            if copied and (out.shape == value.shape or name in _PARTS):
                self._remember(out, value, *found)
            elif not added:
                weight.opaque = True
                if len(weight.shape) > 1:
                    self.used.add((weight.unit, name))

    def _remember(self, copy: Tensor, value: Tensor, index: int, turned: bool) -> None:
        """`copy` was computed from a weight, element by element."""
        memory = key(copy)
        if memory in self._own:
            return
        orders = [t.dim() > 1 and t.stride(-1) < t.stride(-2) for t in (copy, value)]
        turned = turned != (orders[0] != orders[1])
        self._known[memory] = (index, turned, self.births.alive.get(memory))


class _Exports(TorchFunctionMode):
    """Notices the methods by which numbers leave PyTorch."""

    def __init__(self, meter: Meter):
        super().__init__()
        self.meter = meter

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        if name in EXPORTS and torch.is_tensor(args[0]):
            many = args[0].numel() >= LEAST_EXPORT
            if many and args[0].is_floating_point():
                self.meter.exported(name, args[0])
        return func(*args, **(kwargs or {}))
