"""What one training step costs: FLOPs, passes, and bytes held; counted, not timed.

All counts are exact and the same on every machine. Three of them need a word:

saved bytes
    peak bytes that autograd holds for a backward pass (`saved_tensors_hooks`), each
    storage once, parameters and buffers excluded;
live bytes
    peak bytes of all tensors that the step itself creates and has alive at once, the
    credits excluded. It also sees what a rule keeps in plain variables, so a rule that
    does its own backward pass without autograd cannot hide what it stores;
passes
    rows that went through the units over rows of the batch, averaged over the units, so
    that positive and negative data in one stacked batch count as two passes.
"""

import itertools
import statistics
import time
import weakref
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from bpfree_common.learning.rule import LearningRule

TIMED_PERIODS = 3  #: periods of a rule that `step_time_ratios` times in one go


@dataclass(frozen=True)
class Cost:
    """The counted cost of one call of `credit`."""

    flops: int
    saved_bytes: int
    live_bytes: int
    forward: float
    backward: float
    jvp: float
    evaluations: float
    crossings: int

    def as_dict(self) -> dict:
        """Plain numbers for the record."""
        return asdict(self)


def measure(rule: LearningRule, batch: tuple[Tensor, Tensor], seed: int = 0) -> Cost:
    """Count one step of `rule.credit` on `batch`, with a fixed random state.

    FLOPs and passes are averaged over `rule.period` steps, of bytes the largest step
    counts. A rule with a period is counted on a copy, since its steps move its counters.
    """
    rule = rule.clone() if rule.period > 1 else rule
    steps = [_measure_step(rule, batch, seed) for _ in range(rule.period)]
    columns = {name: [step[name] for step in steps] for name in steps[0]}
    mean = {name: statistics.fmean(values) for name, values in columns.items()}
    peaks = {n: max(columns[n]) for n in ("saved_bytes", "live_bytes", "crossings")}
    return Cost(**mean | peaks | {"flops": round(mean["flops"])})


def _measure_step(rule: LearningRule, batch, seed: int) -> dict:
    """Count two equal calls of `credit`.

    Two, because the counter of FLOPs keeps tensors alive that the step would release.
    """
    twin = rule.clone() if rule.period > 1 else rule
    flops = FlopCounterMode(display=False, custom_mapping=_SPARSE)
    passes = Passes(rule, rule.rows(batch))
    _credit(rule, batch, seed, passes, flops)
    state = {_key(t) for t in (*twin.parameters(), *twin.buffers())}
    saved, live = SavedBytes(state), LiveBytes(state)
    _credit(twin, batch, seed, saved, live)
    credits = {_key(p.grad) for p in twin.parameters() if p.grad is not None}
    live_bytes = live.peak(without=credits)
    twin.zero_grad(set_to_none=True)
    return {
        "flops": flops.get_total_flops(),
        "saved_bytes": saved.peak,
        "live_bytes": live_bytes,
        "crossings": len(passes.crossed),
        **passes.per_unit(),
    }


def _credit(rule: LearningRule, batch, seed: int, *contexts) -> None:
    rule.zero_grad(set_to_none=True)
    with torch.random.fork_rng(), torch.enable_grad(), ExitStack() as stack:
        torch.manual_seed(seed)
        for context in contexts:
            stack.enter_context(context)
        rule.credit(batch)


def step_time_ratios(
    rules: dict[str, LearningRule], reference: str, batch, repeats: int = 7
) -> dict[str, float]:
    """Median time of zero, credit and optimiser step over that of `reference`.

    Time is that of the process where all runs on the CPU, so that others on the machine
    do not count (of several threads, those that wait count too), and time on the wall
    where an accelerator works.
    A step is the mean over a rule's period. The rules take turns, so that a change of
    the machine's speed hits all alike; in its turn a rule repeats its period as in
    training, where no other rule's memory and code are in the caches: the first one is
    not timed. Copies are stepped at rate zero, so that all steps are taken where the
    FLOPs were counted, and the rules stay as they are.
    """
    copies = {name: rule.clone() for name, rule in rules.items()}
    steps = {name: _stepper(rule, batch) for name, rule in copies.items()}
    times = {name: [] for name in rules}
    clock = _clock(batch)
    for _ in range(repeats):
        for name, step in steps.items():
            period = copies[name].period
            for _ in range(period):
                step()
            start = clock()
            for _ in range(TIMED_PERIODS * period):
                step()
            times[name].append((clock() - start) / period)
    return {
        name: statistics.median(
            a / b for a, b in zip(times[name], times[reference], strict=True)
        )
        for name in rules
    }


def _clock(batch) -> Callable[[], float]:
    """What tells the seconds that work on tensors such as these has taken."""
    if all(t.device.type == "cpu" for t in tree_leaves(batch) if torch.is_tensor(t)):
        return time.process_time

    def wall() -> float:
        torch.accelerator.synchronize()  # its work is only queued so far
        return time.perf_counter()

    return wall


def _stepper(rule: LearningRule, batch):
    """A function that takes one step on `batch` and leaves the weights as they are."""
    optimizers = rule.configure_optimizers()
    if isinstance(optimizers, tuple):  # Lightning's form with schedules beside
        optimizers = optimizers[0]
    if not isinstance(optimizers, list):
        optimizers = [optimizers]
    for optimizer in optimizers:
        optimizer.register_step_pre_hook(_rest)  # after those of a rule's own schedule
        for parameter in (p for g in optimizer.param_groups for p in g["params"]):
            parameter.grad = torch.zeros_like(parameter)
        # fused SGD cannot start the momentum of one parameter later than another's, as
        # it must for a part that is not taught in every step
        optimizer.step()

    def step() -> None:
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        rule.credit(batch)
        for optimizer in optimizers:
            optimizer.step()

    return step


def _rest(optimizer, *_) -> None:
    for group in optimizer.param_groups:
        group["lr"] = 0.0


class Passes:
    """Hooks on the units that count passes and gradients crossing unit boundaries.

    `crossed` holds the indices of units through whose input a gradient flowed backward.
    """

    def __init__(self, rule: LearningRule, rows: int):
        self.rule, self.rows = rule, rows
        self.crossed: set[int] = set()
        self.counts = {k: [0.0] * len(rule.units) for k in _KINDS}

    def __enter__(self) -> "Passes":
        self._hooks = []
        for index, unit in enumerate(self.rule.units):
            self._hooks.append(unit.register_forward_pre_hook(self._before(index)))
            self._hooks.append(unit.register_forward_hook(self._after(index)))
        return self

    def __exit__(self, *_) -> None:
        for hook in self._hooks:
            hook.remove()

    def per_unit(self) -> dict[str, float]:
        """Mean passes of each kind over the units that were called."""
        called = [n > 0 for n in self.counts["forward"]]
        units = max(sum(called), 1)
        return {kind: sum(counts) / units for kind, counts in self.counts.items()}

    def _before(self, index: int):
        def hook(unit, inputs) -> None:
            for x in tree_leaves(inputs):
                if torch.is_tensor(x) and x.requires_grad and not _wrapped(x):
                    x.register_hook(lambda grad: self.crossed.add(index))

        return hook

    def _after(self, index: int):
        def hook(unit, inputs, output):
            if torch.is_tensor(output) and output.requires_grad and output._is_view():
                output = output.clone()  # a view changed in place would lose its hook
            first = next(t for t in tree_leaves(output) if torch.is_tensor(t))
            share = _rows(first) / self.rows
            tangent = _has_tangent(first)
            self.counts["forward"][index] += share
            if tangent:
                self.counts["jvp"][index] += _tangent_rows(first) / self.rows
            elif first.requires_grad:
                self._count_backward(first, index, share)
            else:
                self.counts["evaluations"][index] += share
            return output

        return hook

    def _count_backward(self, output: Tensor, index: int, share: float) -> None:
        fired = []

        def hook(grad) -> None:
            if not fired:
                fired.append(True)
                self.counts["backward"][index] += share

        output.register_hook(hook)


_KINDS = ("forward", "backward", "jvp", "evaluations")


def _wrapped(x: Tensor) -> bool:
    return torch._C._functorch.is_functorch_wrapped_tensor(x)


def _rows(x: Tensor) -> float:
    """Rows of a unit's output, counting those that `torch.vmap` hides."""
    plain = x
    while _wrapped(plain):
        plain = torch._C._functorch.get_unwrapped(plain)
    return len(x) * plain.numel() / x.numel()


def _has_tangent(x: Tensor) -> bool:
    return _tangent(x) is not None


def _tangent(x: Tensor) -> Tensor | None:
    try:
        return forward_ad.unpack_dual(x).tangent
    except RuntimeError:  # outside of any forward-mode level
        return None


def _tangent_rows(x: Tensor) -> float:
    """Tangents may be batched over directions while the primal is not."""
    return _rows(_tangent(x))


def _key(x: Tensor) -> int:
    """Identity of the memory behind a tensor."""
    if x.layout != torch.strided:
        x = x.values() if x.layout != torch.sparse_coo else x._values()
    while _wrapped(x):
        x = torch._C._functorch.get_unwrapped(x)
    return x.untyped_storage()._cdata


class SavedBytes(torch.autograd.graph.saved_tensors_hooks):
    """Peak bytes held by autograd; views of one storage count once, as the largest."""

    def __init__(self, state: set[int]):
        self.state, self.peak = state, 0
        self._held: dict[int, list[int]] = defaultdict(list)
        super().__init__(self._pack, lambda holder: holder.tensor)

    def _pack(self, tensor: Tensor) -> "_Holder":
        holder = _Holder(tensor.detach())
        key = _key(tensor)
        if key not in self.state:
            size = tensor._nnz() if tensor.layout != torch.strided else tensor.numel()
            held, size = self._held[key], size * tensor.element_size()
            held.append(size)
            weakref.finalize(holder, held.remove, size)
            self.peak = max(
                self.peak, sum(max(h, default=0) for h in self._held.values())
            )
        return holder


class _Holder:
    """Keeps one saved tensor; its death is the tensor's release."""

    def __init__(self, tensor: Tensor):
        self.tensor = tensor


class LiveBytes(TorchDispatchMode):
    """Follows every tensor created inside the block from its birth to its release."""

    def __init__(self, state: set[int]):
        super().__init__()
        self._state = state
        self._alive: dict[int, int] = {}  # memory -> number of its birth
        self._events: list[tuple[int, int]] = []  # (number, bytes gained or lost)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        known = {_key(t) for t in tree_leaves((args, kwargs)) if torch.is_tensor(t)}
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if torch.is_tensor(tensor) and tensor.layout == torch.strided:
                self._watch(tensor.untyped_storage(), known)
        return out

    def _watch(self, storage, known: set[int]) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._alive and key not in self._state and key not in known:
            self._alive[key] = len(self._events)
            self._events.append((self._alive[key], size))
            weakref.finalize(storage, self._died, key, size)

    def _died(self, key: int, size: int) -> None:
        self._events.append((self._alive.pop(key), -size))

    def peak(self, without: set[int]) -> int:
        """Peak of the bytes alive at once, leaving out the living storages `without`."""
        skipped = {self._alive[key] for key in without if key in self._alive}
        changes = [change for number, change in self._events if number not in skipped]
        return max(itertools.accumulate(changes), default=0)


def _sparse_aware(dense):
    """FLOPs of a matrix product with a sparse factor: 2 x nonzeros x columns."""

    def formula(*args, out_val=None, **kwargs) -> int:
        a, b = args[-2], args[-1]
        if a.layout != torch.strided:
            return 2 * a._nnz() * b.shape[-1]
        if b.layout != torch.strided:
            return 2 * b._nnz() * a.shape[0]
        return dense(a.shape, b.shape)

    formula._get_raw = True
    return formula


def _mm(a, b) -> int:
    return 2 * a[0] * a[1] * b[1]


_SPARSE = {
    torch.ops.aten.mm: _sparse_aware(_mm),
    torch.ops.aten.addmm: lambda *args, out_val=None, **kw: _sparse_aware(_mm)(*args[:3]),
}
_SPARSE[torch.ops.aten.addmm]._get_raw = True
