"""Is the credit any good? Alignment, perturbation correlation, gradient floor, nudging.

The names are those of "Beyond Accuracy and Alignment" (2026), which reports that a cosine
with the gradient can mislead: where the gradient has vanished the cosine is that of
noise, and a rule of higher cosine need not lower the loss more. Its text could not be
consulted;
public notes on its experiments say that the perturbation correlation is taken between
the predicted and the true change of the loss under small random perturbations of
hidden states, and that gradients near 1e-8 are at the floor. The definitions here are
made for the weights of a unit, since a rule need not have a credit of hidden states:

alignment
    cos(a, g) of the credit a and the gradient g of the rule's objective L.
perturbation correlation
    Pearson's correlation over random directions v of <a, v> and L(W + e v) - L(W), with
    e |v| = 1e-3 |W|. For a = g it tends to 1 as e goes to 0; for an unrelated a it is 0.
gradient floor
    |g(float32) - g(float64)| / |g|: the share of the gradient that is round-off of the
    arithmetic in which the rule trains. Above 0.1 the alignment tells nothing: NaN.
nudging
    (L(W) - L(W - s a/|a|)) / (L(W) - L(W - s g/|g|)) with s = 1e-3 |W|: how much of the
    decrease of the loss that the gradient buys a step along the credit buys. 1 for the
    gradient, 0 for a useless direction, below 0 for a harmful one.
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from bpfree_common.learning.alignment import cosine
from bpfree_common.learning.rule import LearningRule
from bpfree_common.measuring.influence import Trace
from bpfree_common.measuring.stepping import train

SMALL = 1e-3  #: of a perturbation or a nudge, relative to the weights of the unit
DIRECTIONS = 32  #: random directions of the perturbation correlation
FLOOR = 0.1  #: share of round-off in a gradient from which alignment tells nothing
NAN = float("nan")


@dataclass(frozen=True)
class Diagnostics:
    """One number per unit of each; NaN where a unit has no credit or no gradient."""

    alignment: list[float]
    perturbation_correlation: list[float]
    gradient_floor: list[float]
    nudging: list[float]

    def as_dict(self) -> dict:
        """For the record: NaN becomes None."""
        lists = asdict(self).items()
        return {k: [None if v != v else round(v, 6) for v in vs] for k, vs in lists}


def diagnose(
    rule: LearningRule, batch: tuple, seed: int = 0, directions: int = DIRECTIONS
) -> Diagnostics:
    """The four diagnostics of the next training step of `rule` on `batch`, in float64.

    The rule stays as it is. The credit is what the step leaves in `.grad`, or, of a rule
    that leaves nothing there, the change of its weights with the sign turned.
    """
    exact = rule.clone().double()
    wide = tuple(t.double() if t.is_floating_point() else t for t in batch)
    trace = Trace()
    train(exact.clone(), [wide], trace, seed=seed, same_draws=True)
    loss = _Loss(exact, wide, seed)
    true, narrow = loss.gradient(), _Loss(rule.clone(), batch, seed).gradient()
    credits = _credits(trace, loss.touched())
    found = [
        _of_unit(loss, u, credits[u], true[u], narrow[u], directions)
        for u in range(len(true))
    ]
    return Diagnostics(*map(list, zip(*found, strict=True)))


def _of_unit(loss: "_Loss", unit: int, a: Tensor, g: Tensor, rough: Tensor, k: int):
    """alignment, perturbation correlation, gradient floor, nudging of one unit."""
    if not a.norm() > 0 or not g.norm() > 0:
        return NAN, NAN, NAN, NAN
    floor = float((rough.double() - g).norm() / g.norm())
    size = SMALL * loss.weights(unit).norm().clamp_min(SMALL)
    generator = torch.Generator().manual_seed(unit)
    v = torch.randn(k, len(g), generator=generator, dtype=g.dtype)
    v = size * v / v.norm(dim=1, keepdim=True)
    changes = torch.stack([loss.change(unit, step) for step in v])
    correlation = float(torch.corrcoef(torch.stack([v @ a, changes]))[0, 1])
    gained, most = (loss.change(unit, -size * d / d.norm()) for d in (a, g))
    aligned = cosine(a, g) if floor < FLOOR else NAN
    return aligned, correlation, floor, float(gained / most) if most else NAN


def step_alignment(rule: LearningRule, trace: Trace, batch: tuple) -> list[float]:
    """Cosine of the first step's credit and the gradient, per unit; 0 without either.

    Parameters that the objective does not depend on, such as learned feedback weights,
    are left out.
    """
    wide = tuple(t.double() if t.is_floating_point() else t for t in batch)
    loss = _Loss(rule.double(), wide, 0)
    true = loss.gradient()
    credits = _credits(trace, loss.touched())
    return [cosine(a, g) for a, g in zip(credits, true, strict=True)]


def _credits(trace: Trace, masks: list[Tensor]) -> list[Tensor]:
    """The credit of each unit in the first step, where the objective has a gradient."""
    units = len(masks)
    changes, credits = trace.changes[0][:units], trace.changes[0][units:]
    left = any(c.any() for c in credits)
    found = credits if left else [-c for c in changes]
    return [a * mask for a, mask in zip(found, masks, strict=True)]


class _Loss:
    """The rule's objective on one batch as a function of the weights of one unit."""

    def __init__(self, rule: LearningRule, batch: tuple, seed: int):
        self.rule, self.batch, self.seed = rule, batch, seed
        self._here = None

    def value(self) -> Tensor:
        """The objective with its random draws fixed."""
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            return self.rule.objective(self.batch)

    def gradient(self) -> list[Tensor]:
        """Its gradient, one vector per unit."""
        self.rule.zero_grad(set_to_none=True)
        with torch.enable_grad():
            self.value().backward()
        return self._joined(lambda p: torch.zeros_like(p) if p.grad is None else p.grad)

    def touched(self) -> list[Tensor]:
        """After `gradient`: 1 where a parameter has one, else 0; a vector per unit."""
        return self._joined(lambda p: torch.full_like(p, p.grad is not None))

    def _joined(self, of) -> list[Tensor]:
        units = [[of(p).flatten() for p in u.parameters()] for u in self.rule.units]
        return [torch.cat(parts) if parts else torch.zeros(0) for parts in units]

    def weights(self, unit: int) -> Tensor:
        """The weights of a unit as one vector."""
        return self._joined(lambda p: p.detach())[unit]

    @torch.no_grad()
    def change(self, unit: int, step: Tensor) -> Tensor:
        """L(W + step) - L(W), the weights of other units unchanged."""
        if self._here is None:
            self._here = self.value()
        parameters = list(self.rule.units[unit].parameters())
        kept = [p.clone() for p in parameters]
        sizes = [p.numel() for p in parameters]
        for p, part in zip(parameters, step.split(sizes), strict=True):
            p += part.view_as(p)
        moved = self.value()
        for p, before in zip(parameters, kept, strict=True):
            p.copy_(before)
        return moved - self._here
