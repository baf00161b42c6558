"""Whose weights a unit's change depends on, over real training steps.

The rule trains on one batch for some steps. After each step the laboratory notes how the
weights of every unit changed, and puts them back where they were; all else goes on:
buffers, attributes, closures, counters, the optimiser's state. So all steps see equal
weights, and
state is followed: a copy of the weights made in one step and used in a later one shows.
Then the weights of one unit are moved before training, and the steps are taken again.
"""

from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bpfree_common.errors import ContractError
from bpfree_common.learning.rule import LearningRule
from bpfree_common.measuring.meter import Meter, Seen
from bpfree_common.measuring.stepping import Make, Observer, train

STEP = 0.3  #: size of a perturbation, in standard deviations of the weights
#: Relative change that counts as a dependence, at least; see `Influence.floor`.
TOLERANCE = {torch.float64: 1e-7, torch.float32: 1e-3}
ROUND_OFF = 30  #: times the rule's own response to round-off count as nothing
NAN = float("nan")

Matrix = list[list[float]]


@dataclass
class Trace(Observer):
    """What happened in the steps of one run.

    changes[step]: how every unit's weights changed, then every unit's credit (what the
    step left in `.grad`; an optimiser such as Adam may hide how one depends on weights).
    metered: how many steps to count (`flops`, `used`, `exports`, of each step).
    """

    metered: float = 0
    changes: list[list[Tensor]] = field(default_factory=list)
    flops: list[int] = field(default_factory=list)
    used: list[frozenset] = field(default_factory=list)
    exports: list[frozenset] = field(default_factory=list)
    first: list[Seen] = field(default_factory=list)  #: of the first step
    rows: dict[int, list[Tensor]] = field(default_factory=dict)  #: inputs of weights
    meter: Meter | None = None

    def before(self, rule: LearningRule, step: int, batch) -> None:
        """Note where the weights are; they are put back there."""
        if step == 0:
            self._start = [p.detach().clone() for p in _parameters(rule)]
            self.meter = Meter(rule.units, keep=True) if self.metered else None
        for p in _parameters(rule):
            p.grad = None

    def during(self, rule: LearningRule, step: int, batch):
        """Count the step."""
        return self.meter.step() if step < self.metered else nullcontext()

    def after(self, rule: LearningRule, step: int, batch) -> None:
        """Note the change of the weights, and put them back."""
        moved = iter(zip(_parameters(rule), self._start, strict=True))
        changes, credits = [], []
        with torch.no_grad():
            for unit in rule.units:
                parts, given = [], []
                for _ in unit.parameters():
                    p, start = next(moved)
                    parts.append((p - start).flatten())
                    given.append(torch.zeros_like(p) if p.grad is None else p.grad)
                    p.copy_(start)
                changes.append(_joined(parts))
                credits.append(_joined([g.flatten() for g in given]))
        self.changes.append(changes + credits)
        if step < self.metered:
            self._note(step)

    def _note(self, step: int) -> None:
        meter = self.meter
        self.flops.append(meter.flops)
        self.used.append(frozenset(meter.used))
        self.exports.append(frozenset(meter.exports))
        if step == 0:
            self.first = meter.seen
        for seen in meter.seen:
            known = self.rows.setdefault(seen.weight, [])
            if seen.entered is None:
                known.append(None)
            elif not any(k is not None and _equal(k, seen.entered) for k in known):
                known.append(seen.entered)


def _joined(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts) if parts else torch.zeros(0)


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)


def _parameters(rule: LearningRule) -> list[Tensor]:
    return [p for unit in rule.units for p in unit.parameters()]


@dataclass
class Influence:
    """Measures dependence and weight transport of the rules that `make` makes.

    batch: of every step; dtype: what weights and batch are cast to (None: as they are).
    steps, epochs: the run is `epochs` epochs of `steps` steps.
    Raises ContractError when the same run ends in two ways.
    """

    make: Make
    batch: tuple
    dtype: torch.dtype | None = None
    steps: int = 16
    epochs: int = 1
    seed: int = 0

    def __post_init__(self):
        cast = self.dtype
        if cast is not None:
            floats = (t.to(cast) if t.is_floating_point() else t for t in self.batch)
            self.batch = tuple(floats)
        self.base = self._run(metered=float("inf"))
        again = self._run()
        if not _same(self.base, again):
            raise ContractError(
                f"{type(self.make()).__name__} ended equal steps in two ways: it draws "
                "on something outside of the rule (a global, a file, a clock, another "
                "random source)"
            )
        self.units = len(self.base.changes[0]) // 2
        round_off = self._run(_jitter)
        self.floor = _changes(self.base, round_off)  # [step][unit], steps, then credits

    def _run(self, perturb=None, metered: float = 0) -> Trace:
        rule = self.make()
        rule = rule if self.dtype is None else rule.to(self.dtype)
        if perturb is not None:
            with torch.no_grad():
                perturb(rule)
        trace = Trace(metered)
        steps = [self.batch] * self.steps
        train(rule, steps, trace, self.epochs, self.seed, same_draws=True)
        return trace

    def dependence(self) -> Matrix:
        """D[l][m]: relative change of unit l's step when unit m's weights move.

        The largest over all steps; 0 within round-off; NaN where a step is not finite,
        or so sensitive to round-off that nothing can be told.
        """
        columns = []
        for m in range(self.units):
            moved = self._run(lambda rule, m=m: _move_anyhow(rule, m))
            columns.append(self._column(moved))
        return _transposed(columns)

    def transport(self, dependence: Matrix) -> Matrix:
        """T[l][m]: the same, unit m's weights moving only where no forward pass sees it.

        0 where nothing depends on unit m at all. NaN, where no change was found, if some
        of the unit's weights could not be moved unseen: the inputs span the space, or
        (where there is a backward pass) all of it but what is silent in every sample, or
        the weights multiply elements (gains, normalisation) and have no null space.
        """
        columns = []
        for m in range(self.units):
            depends = [row[m] for row in dependence]
            if any(depends):
                columns.append(self._unseen(m, depends))
            else:
                columns.append([0.0] * self.units)
        return _transposed(columns)

    def _unseen(self, m: int, depends: list[float]) -> list[float]:
        steps, complete = self._null_steps(m)
        found = [NAN] * self.units
        if steps:
            names = {self.base.meter.weights[i].name: s for i, s in steps.items()}
            moved = self._run(lambda rule: _move(rule, names), metered=1)
            if not _visible(self.base.first, moved.first, set(steps)):
                column = self._column(moved)
                found = [v if v or complete else NAN for v in column]
        return [f if d else 0.0 for f, d in zip(found, depends, strict=True)]

    def _null_steps(self, m: int) -> tuple[dict[int, Tensor], bool]:
        """Moves of unit m's weights that no forward pass sees; whether all could move.

        Weights that are used otherwise than in forward passes must move where inputs are
        active too.
        """
        steps, complete = {}, True
        otherwise = {unit for used in self.base.used for unit, _ in used}
        generator = torch.Generator().manual_seed(m)
        for index, weight in enumerate(self.base.meter.weights):
            if weight.unit != m:
                continue
            if index in self.base.rows:
                blocks = self.base.rows[index]
                move = _null_step(weight, blocks, generator)
                complete &= move is not None and (
                    m not in otherwise or _reaches_active(weight, blocks)
                )
                if move is not None:
                    steps[index] = move
            elif weight.opaque:
                complete = False
        return steps, complete

    def _threshold(self, step: int, unit: int) -> float:
        """The relative change of a unit's step up to which it counts as round-off."""
        least = TOLERANCE.get(self.base.changes[0][unit].dtype, 1e-2)
        return max(least, ROUND_OFF * self.floor[step][unit])

    def resolution(self, unit: int) -> float:
        """The largest change of a unit's step or credit that counts as round-off."""
        places = unit, unit + self.units
        steps = range(len(self.floor))
        return max(self._threshold(step, place) for step in steps for place in places)

    def _column(self, moved: Trace) -> list[float]:
        changes = _changes(self.base, moved)
        both = [self._entry(changes, place) for place in range(2 * self.units)]
        pairs = zip(both[: self.units], both[self.units :], strict=True)
        return [_larger(*pair) for pair in pairs]

    def _entry(self, changes: Matrix, unit: int) -> float:
        values = [c[unit] for c in changes]
        limits = [self._threshold(step, unit) for step in range(len(changes))]
        above = [v for v, limit in zip(values, limits, strict=True) if v > limit]
        if above:
            return max(above)
        unclear = any(v != v for v in values) or max(limits) > STEP
        return NAN if unclear else 0.0


def _same(one: Trace, other: Trace) -> bool:
    pairs = zip(one.changes, other.changes, strict=True)
    return all(
        torch.equal(a.nan_to_num(), b.nan_to_num())
        for step in pairs
        for a, b in zip(*step, strict=True)
    )


def _changes(before: Trace, after: Trace) -> Matrix:
    """Relative change of each unit's step, [step][unit]."""
    pairs = zip(before.changes, after.changes, strict=True)
    return [[_change(a, b) for a, b in zip(*step, strict=True)] for step in pairs]


def _change(before: Tensor, after: Tensor) -> float:
    scale = torch.maximum(before.norm(), after.norm())
    if scale == 0:
        return 0.0
    return float((after - before).norm() / scale)


def _larger(a: float, b: float) -> float:
    """The larger of two; NaN if one is NaN and the other 0, which tells nothing."""
    if a != a or b != b:
        return a if a > 0 else b if b > 0 else NAN
    return max(a, b)


def _transposed(columns: Matrix) -> Matrix:
    return [list(row) for row in zip(*columns, strict=True)]


def _jitter(rule: LearningRule) -> None:
    """Move all weights by a few units of the last place."""
    generator = torch.Generator().manual_seed(0)
    for p in _parameters(rule):
        noise = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        p *= 1 + 4 * torch.finfo(p.dtype).eps * noise


def _move_anyhow(rule: LearningRule, m: int) -> None:
    """Add noise to all weights of unit m."""
    generator = torch.Generator().manual_seed(m)
    for p in rule.units[m].parameters():
        noise = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        p += STEP * noise * p.std(correction=0).clamp_min(0.1)


def _move(rule: LearningRule, steps: dict[str, Tensor]) -> None:
    """Add the step of each weight, by name."""
    for unit, module in enumerate(rule.units):
        for name, p in module.named_parameters():
            if f"{unit}.{name}" in steps:
                p += steps[f"{unit}.{name}"].to(p.dtype)


def _null_step(weight, blocks: list, generator) -> Tensor | None:
    """A random step of a weight that changes no product with `blocks` of rows.

    None if they span the space, or are not rows of the whole weight.
    """
    if weight.lookup:
        used = torch.cat([b.flatten() for b in blocks]).unique()
        step = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        step[used] = 0
        return STEP * step if len(used) < weight.shape[0] else None
    turned = weight.forward == "major"  # sums over the first dimension
    size = (weight.shape[0], -1)
    noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
    matrix = noise.reshape(size).T if turned else noise.reshape(size)
    if any(b is None or b.shape[1] != matrix.shape[1] for b in blocks):
        return None
    seen = _span(torch.cat(blocks).double())
    if len(seen) >= matrix.shape[1]:
        return None
    matrix = matrix - matrix @ seen.T @ seen
    matrix = matrix - matrix @ seen.T @ seen  # once more, against round-off
    return STEP * weight.spread * (matrix.T if turned else matrix).reshape(weight.shape)


def _reaches_active(weight, blocks: list) -> bool:
    """Whether the null space holds more than inputs that are zero in every row.

    What moves on silent inputs alone may hide from a backward pass: the derivative of a
    rectifier is zero there too.
    """
    if weight.lookup:
        return True
    rows = torch.cat(blocks).double()
    active = rows[:, (rows != 0).any(0)]
    return len(_span(active)) < active.shape[1]


def _span(rows: Tensor) -> Tensor:
    """An orthonormal basis of the space that the rows span."""
    if len(rows) > rows.shape[1]:
        rows = torch.linalg.qr(rows, mode="r").R
    _, values, vectors = torch.linalg.svd(rows, full_matrices=False)
    return vectors[values > 1e-9 * values.max().clamp_min(1e-30)]


def _visible(before: list[Seen], after: list[Seen], moved: set[int]) -> bool:
    """Whether a moved weight showed in a forward product that was fed as before.

    Then the pass uses it otherwise than by a plain product, and its null space is not
    what was thought. A product that was *fed* otherwise is no pass seeing the weight.
    """
    for a, b in zip(before, after, strict=False):
        if a.weight != b.weight or a.entered is None or b.entered is None:
            return False
        if not _close(a.entered, b.entered):
            return False
        if a.weight in moved and not _close(a.left, b.left):
            return True
    return False


def _close(a: Tensor, b: Tensor) -> bool:
    loose = 1e-9 if a.dtype == torch.float64 else 1e-4
    return a.shape == b.shape and torch.allclose(a, b, rtol=loose, atol=loose)
