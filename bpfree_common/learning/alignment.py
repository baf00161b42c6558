"""How far a rule's credit points along the true gradient."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from bpfree_common.learning.rule import LearningRule


def cosine(a: Tensor, b: Tensor) -> float:
    """Cosine of the angle between two tensors of equal size; 0 if either is zero."""
    a, b = a.flatten().double(), b.flatten().double()
    norms = a.norm() * b.norm()
    return float(a @ b / norms) if norms > 0 else 0.0


def unit_credits(rule: LearningRule) -> list[Tensor]:
    """The credits of each unit in one vector; zeros where a parameter has none."""
    vectors = []
    for unit in rule.units:
        grads = [
            (torch.zeros_like(p) if p.grad is None else p.grad).flatten()
            for p in unit.parameters()
        ]
        vectors.append(torch.cat(grads) if grads else torch.zeros(0))
    return vectors


@contextmanager
def untouched(rule: LearningRule, seed: int = 0) -> Iterator[None]:
    """A block that may fill `.grad`, move buffers and draw numbers without a trace."""
    buffers = [b for b in rule.buffers() if b.layout == torch.strided]  # graphs are fixed
    before = [b.clone() for b in buffers]
    rule.zero_grad(set_to_none=True)
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(seed)
        yield
    rule.zero_grad(set_to_none=True)
    with torch.no_grad():
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)


def compute_credit(rule: LearningRule, batch, seed: int = 0) -> list[Tensor]:
    """One call of `credit` with a fixed random state; one vector per unit."""
    with untouched(rule, seed):
        rule.credit(batch)
        return [v.detach().clone() for v in unit_credits(rule)]


def compute_gradient(rule: LearningRule, batch, seed: int = 0) -> list[Tensor]:
    """The gradient of `rule.objective`, random state fixed; one vector per unit."""
    with untouched(rule, seed):
        rule.objective(batch).backward()
        return [v.detach().clone() for v in unit_credits(rule)]


def alignment(rule: LearningRule, batch) -> list[float]:
    """Cosine between credit and true gradient, per unit (1: the same direction).

    Parameters that the objective does not depend on, such as learned feedback weights,
    have no gradient and are left out; a unit of only such parameters gets 0.
    """
    with untouched(rule):
        rule.objective(batch).backward()
        gradients = {p: p.grad for p in rule.parameters() if p.grad is not None}
    with untouched(rule):
        rule.credit(batch)
        credits = {p: p.grad for p in gradients if p.grad is not None}
    found = []
    for unit in rule.units:
        used = [p for p in unit.parameters() if p in gradients]
        given = [credits.get(p, torch.zeros_like(p)).flatten() for p in used]
        true = [gradients[p].flatten() for p in used]
        found.append(cosine(torch.cat(given), torch.cat(true)) if used else 0.0)
    return found
