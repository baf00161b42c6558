"""The credit audit: what a training step really used, measured and not asserted.

dependence D[l][m]
    relative change of unit l's step when unit m's weights are perturbed. What is not
    zero above the diagonal locks updates: layer l must wait for layer m.
weight transport T[l][m]
    the same, when unit m's weights move only where no forward pass can see it. What is
    not zero uses the weights themselves and not their effect (the backward pass of
    backpropagation).

Both come from real training steps (`measuring.influence`): optimisers, hooks, an
overridden `step`, and state that carries weights from step to step are in them. They are
measured in
float64 on a few samples, and as the rule trains (float32, many samples), and compared;
then the rule is watched over a longer training (`measuring.watch`). The larger entry
counts. With them come the counts of `measuring.cost`. What is not covered: conditions
that none of these runs meets, such as a date, a data set, or a larger number of steps.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bpfree_common.errors import AuditMismatch
from bpfree_common.learning.rule import LearningRule
from bpfree_common.measuring import cost
from bpfree_common.measuring.conduct import (
    learns_outside_of_units,
    refuse_learning_outside_of_steps,
)
from bpfree_common.measuring.diagnostics import step_alignment
from bpfree_common.measuring.influence import Influence, Matrix
from bpfree_common.measuring.stepping import Make, maker
from bpfree_common.measuring.watch import Watch, watch

DEPTHS = (2, 4, 8, 16)
MANY, MORE = 64, 128  #: rows of the batch as the rule trains, and in the longer training
EPOCHS, WATCHED = 4, 16  #: epochs and steps in each of the longer training
LEAST_STEPS = 8  #: steps in which dependence is measured
UNDEFINED = "undefined"
PLAIN = 0.01  #: a difference between two measurements that is no round-off
NAN = float("nan")

Build = Callable[[int], LearningRule]


@dataclass
class Audit:
    """The audit of one rule. Matrices are lists of rows; NaN where not defined.

    findings: what a reader must know beside the row, in words; empty for a rule that
        does the same in all runs.
    """

    dependence: Matrix
    transport: Matrix
    passes: dict[str, float] = field(default_factory=dict)
    flops: int = 0
    live_bytes: dict[int, int] = field(default_factory=dict)
    alignment: list[float] = field(default_factory=list)
    crossed: list[bool | None] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    unmeasured: bool = False  #: some steps did what no measured one does

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.dependence)

    @property
    def crossings(self) -> int | str:
        """Units whose weights carry credit to an earlier one; `undefined` if unknown.

        A gradient that crosses a boundary backward is multiplied with the weights behind
        it, by hand or by autograd; feedback through other matrices does not cross.
        """
        if self.unmeasured or any(c is None for c in self.crossed):
            return UNDEFINED
        return sum(self.crossed)

    @property
    def locking(self) -> str:
        """Update locking, from D above the diagonal: none, part, full or undefined."""
        return UNDEFINED if self.unmeasured else fill(self.dependence)

    @property
    def weight_transport(self) -> str:
        """Weight transport above the diagonal: none, part, full or undefined."""
        return UNDEFINED if self.unmeasured else fill(self.transport)

    @property
    def live_memory(self) -> str:
        """How live bytes grow with depth: none, flat or linear."""
        return growth(self.live_bytes)

    def row(self) -> dict:
        """The properties that a notebook states in advance and the overview compares."""
        return {
            "crossings": self.crossings,
            "locking": self.locking,
            "weight_transport": self.weight_transport,
            "live_memory": self.live_memory,
            **{name: round(value, 3) for name, value in self.passes.items()},
        }

    def expect(self, findings: tuple[str, ...] = (), **stated) -> None:
        """Raise AuditMismatch unless the measured row has the `stated` values.

        findings: beginnings of the findings that are known and explained; any other
            finding is a difference too. A property that is not in the row is one.
        """
        row = self.row()
        wrong = [
            f"{name} is {row.get(name, 'no property')!r}, not {value!r}"
            for name, value in stated.items()
            if row.get(name) != value
        ]
        wrong += [f for f in self.findings if not f.startswith(tuple(findings))]
        if wrong:
            raise AuditMismatch("the audit differs from its row: " + "; ".join(wrong))

    def as_dict(self) -> dict:
        """For the record: the row, the matrices and the growth of memory."""
        return self.row() | {
            "dependence": [[_round(v) for v in row] for row in self.dependence],
            "transport": [[_round(v) for v in row] for row in self.transport],
            "flops": self.flops,
            "live_bytes": {str(k): v for k, v in self.live_bytes.items()},
            "alignment": [_round(v) for v in self.alignment],
            "findings": list(self.findings),
        }


def audit(
    build: Build,
    batch: tuple[Tensor, Tensor],
    depth: int = 4,
    depths=DEPTHS,
    seed: int = 0,
    steps: int | None = None,
    trained: LearningRule | None = None,
) -> Audit:
    """Audit the rule that ``build(depth)`` makes, a network of `depth` units.

    batch: a few samples (fewer than inputs of any unit, so that null spaces exist).
    depths: at which live bytes are counted.
    steps: in which dependence is measured; default two periods of the rule, at least 16.
    trained: a rule to measure as it is now, in place of a fresh one in float32.
    Raises ContractError when `predict` or `score` learns, or equal steps end in two ways.
    """
    make = maker(build, depth, seed)
    rule = make()
    refuse_learning_outside_of_steps(rule, batch)
    as_trained = make if trained is None else trained.clone
    counted = cost.measure(as_trained(), batch, seed)
    grown = {
        # where no trained rule is counted, the rule of this depth is the one just counted
        d: counted if d == depth and trained is None
        else cost.measure(maker(build, d, seed)(), batch, seed)
        for d in depths
    }  # fmt: skip
    runs, seen, other = _runs(make, as_trained, batch, steps or _steps(rule), seed)
    found = _judged(runs)
    found.findings += _in_words(runs, seen, other) + _uncounted(found, runs)
    found.unmeasured = other is not None
    found.passes = {"forward": counted.forward, "evaluations": counted.evaluations}
    found.flops = counted.flops
    found.live_bytes = {d: c.live_bytes for d, c in grown.items()}
    found.alignment = step_alignment(make(), runs[0].base, batch)
    return found


def dependence(rule: LearningRule, batch) -> Matrix:
    """D of one rule as it stands; see the module. Its weights stay as they are."""
    return Influence(rule.clone, batch, steps=_steps(rule)).dependence()


def transport(rule: LearningRule, batch) -> Matrix:
    """T of one rule as it stands; see the module. Its weights stay as they are."""
    influence = Influence(rule.clone, batch, steps=_steps(rule))
    return influence.transport(influence.dependence())


def tiled(batch: tuple, rows: int) -> tuple:
    """The samples of `batch` over and over, at least `rows`: null spaces stay."""
    samples = len(batch[1])
    times = -(-rows // samples)
    return tuple(
        t.repeat(times, *[1] * (t.dim() - 1)) if len(t) == samples else t for t in batch
    )


def _steps(rule: LearningRule) -> int:
    return max(2 * rule.period, LEAST_STEPS)


def _runs(make: Make, as_trained: Make, batch, steps: int, seed: int):
    """The two measurements, the longer training, and what it did that they did not.

    Where it did, both are taken again over as many epochs and steps.
    """
    many, more = tiled(batch, MANY), tiled(batch, MORE)
    watched = max(WATCHED, steps)
    seen = watch(as_trained(), [more, batch], EPOCHS, watched, seed)
    seen.elsewhere = learns_outside_of_units(seen.rule, as_trained(), batch[0])
    for large, epochs, each in ((many, 1, steps), (more, EPOCHS, watched)):
        runs = (
            Influence(make, batch, torch.float64, each, epochs, seed),
            Influence(as_trained, large, None, each, epochs, seed),
        )
        other = seen.novelty({len(r.batch[1]): r.base for r in runs})
        if other is None:
            break
    return runs, seen, other


def _judged(runs: tuple[Influence, Influence]) -> Audit:
    """Both measurements in one, the larger entries; and where they disagree."""
    found = []
    for run in runs:
        D = run.dependence()
        found.append({"dependence": D, "transport": run.transport(D)})
    merged = {k: _merged(*(f[k] for f in found)) for k in found[0]}
    words = []
    for name in merged:
        fills = [fill(f[name]) for f in found]
        if (
            UNDEFINED not in fills
            and fills[0] != fills[1]
            and _apart([f[name] for f in found], runs)
        ):
            words.append(
                f"disagreement: {name} is {fills[0]} in float64 on "
                f"{len(runs[0].batch[1])} samples and {fills[1]} as trained, "
                f"on {len(runs[1].batch[1])}"
            )
    return Audit(**merged, crossed=_crossed(merged["transport"], runs), findings=words)


def _in_words(runs, seen: Watch, other) -> list[str]:
    """The findings of the longer training."""
    words = []
    if other is not None:
        words.append(f"unmeasured: step {other[0] + 1} of a longer training {other[1]}")
    if seen.strays:
        words.append(
            f"outside of steps: weights move before step {seen.strays[0] + 1} of a "
            "longer training while no step is taken"
        )
    if seen.elsewhere:
        words.append("outside of units: predictions use what is learned, but no unit")
    exports = set(seen.exports).union(*(e for r in runs for e in r.base.exports))
    return words + [f"outside of PyTorch: a step {e}" for e in sorted(exports)]


def _uncounted(found: Audit, runs) -> list[str]:
    """Units that others depend on although no counted operation used their matrices."""
    used = {w.unit for w in runs[0].base.meter.weights if w.seen}
    matrices = {w.unit for w in runs[0].base.meter.weights if len(w.shape) > 1}
    for m in sorted(matrices - used):
        if any(row[m] > 0 for l, row in enumerate(found.dependence) if l != m):
            return [f"uncounted: unit {m} matters, but no counted operation used it"]
    return []


def _merged(a: Matrix, b: Matrix) -> Matrix:
    """The larger of two entries; NaN where both are."""
    return [
        [_most(*pair) for pair in zip(*rows, strict=True)]
        for rows in zip(a, b, strict=True)
    ]


def _most(a: float, b: float) -> float:
    return max((v for v in (a, b) if v == v), default=NAN)


def _apart(found: list[Matrix], runs) -> bool:
    """Whether an entry is plain in one measurement and nothing in the other."""
    for (one, other), blind in ((found, runs[1]), (found[::-1], runs[0])):
        for l, rows in enumerate(zip(one, other, strict=True)):
            least = max(PLAIN, 3 * blind.resolution(l))
            if any(a > least and b == 0 for a, b in zip(*rows, strict=True)):
                return True
    return False


def _crossed(T: Matrix, runs) -> list[bool | None]:
    """For each unit whether its weights carry credit to an earlier one; None: not known.

    Where no null space is left, a backward product with the only matrix of a unit tells.
    """
    crossed: list[bool | None] = []
    weights = runs[0].base.meter.weights
    used = frozenset().union(*(u for run in runs for u in run.base.used))
    for m in range(len(T)):
        earlier = [row[m] for row in T[:m]]
        matrices = sum(w.unit == m and len(w.shape) > 1 for w in weights)
        if any(v > 0 for v in earlier):
            crossed.append(True)
        elif any(v != v for v in earlier):
            crossed.append(True if matrices == 1 and (m, "backward") in used else None)
        else:
            crossed.append(False)
    return crossed


def fill(matrix: Matrix) -> str:
    """How much of the upper triangle is not zero: none, part, full or undefined.

    Undefined where an entry is NaN and none is above zero.
    """
    size = len(matrix)
    upper = [matrix[l][m] for l in range(size) for m in range(l + 1, size)]
    if any(v > 0 for v in upper):
        return "full" if all(v > 0 for v in upper) else "part"
    return UNDEFINED if any(v != v for v in upper) else "none"


def growth(held: dict[int, int]) -> str:
    """none: no bytes; flat: the deepest at most a tenth above the second; else linear.

    Of two depths the deeper one is compared with the other. Raises ValueError for one.
    """
    if len(held) < 2:
        raise ValueError(f"growth needs two depths or more, not {list(held)}")
    sizes = [held[depth] for depth in sorted(held)]
    shallow = sizes[0] if len(sizes) == 2 else sizes[1]
    if not any(sizes):
        return "none"
    return "flat" if sizes[-1] <= 1.1 * shallow else "linear"


def _round(value: float) -> float | None:
    return round(value, 6) if value == value else None
