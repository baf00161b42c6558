"""How far a rule's credit points along the true gradient."""

import torch
from torch import Tensor

from bpfree_common.rule import LearningRule


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


def compute_credit(rule: LearningRule, batch, seed: int = 0) -> list[Tensor]:
    """Call `credit` once with a fixed random state; buffers and `.grad` are restored.

    Returns one vector per unit.
    """
    buffers = [b.clone() for b in rule.buffers() if not b.layout == torch.sparse_csr]
    rule.zero_grad(set_to_none=True)
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(seed)
        rule.credit(batch)
    vectors = [v.detach().clone() for v in unit_credits(rule)]
    rule.zero_grad(set_to_none=True)
    dense = [b for b in rule.buffers() if not b.layout == torch.sparse_csr]
    with torch.no_grad():
        for buffer, before in zip(dense, buffers, strict=True):
            buffer.copy_(before)
    return vectors


def compute_gradient(rule: LearningRule, batch, seed: int = 0) -> list[Tensor]:
    """The gradient of `rule.objective`, one vector per unit, random state fixed."""
    parameters = [list(unit.parameters()) for unit in rule.units]
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(seed)
        loss = rule.objective(batch)
        wanted = [p for group in parameters for p in group if p.requires_grad]
        grads = torch.autograd.grad(loss, wanted, allow_unused=True)
    found = {id(p): g for p, g in zip(wanted, grads, strict=True) if g is not None}
    return [
        torch.cat([found.get(id(p), torch.zeros_like(p)).flatten() for p in group])
        if group
        else torch.zeros(0)
        for group in parameters
    ]


def alignment(rule: LearningRule, batch) -> list[float]:
    """Cosine between credit and true gradient, per unit (1: the same direction)."""
    credits = compute_credit(rule, batch)
    gradients = compute_gradient(rule, batch)
    return [cosine(c, g) for c, g in zip(credits, gradients, strict=True)]
