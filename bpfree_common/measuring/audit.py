"""The credit audit: what a rule's credit really depends on, measured and not asserted.

On a small probe network in float64, with the random state fixed, `credit` is called again
and again while the weights of one unit are changed:

dependence D[l, m]
    relative change of unit l's credit when unit m's weights are perturbed. What is not
    zero above the diagonal locks updates: layer l must wait for layer m.
weight transport T[l, m]
    the same, when unit m's weights move only in the null space of all activations that
    passed through m, so that nothing changes in any forward pass. What is not zero uses
    the weights themselves and not their effect (the backward pass of backpropagation).

With them come the counts of `bpfree_common.measuring.cost`, boundary crossings too.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bpfree_common.errors import AuditMismatch, ContractError
from bpfree_common.learning.alignment import alignment, compute_credit
from bpfree_common.learning.rule import LearningRule
from bpfree_common.measuring import cost

DEPTHS = (2, 4, 8, 16)
TOLERANCE = 1e-7  #: relative change of a credit that counts as a dependence
STEP = 0.3  #: relative size of a perturbation

Build = Callable[[int], LearningRule]


@dataclass
class Audit:
    """The audit of one rule. Matrices are lists of rows; NaN where not defined."""

    dependence: list[list[float]]
    transport: list[list[float]]
    crossings: int
    units: int
    passes: dict[str, float]
    flops: int
    saved_bytes: dict[int, int] = field(default_factory=dict)
    live_bytes: dict[int, int] = field(default_factory=dict)
    alignment: list[float] = field(default_factory=list)

    @property
    def locking(self) -> str:
        """Update locking, from the dependence above the diagonal: none, part or full."""
        return _fill(self.dependence)

    @property
    def weight_transport(self) -> str:
        """Weight transport above the diagonal: none, part or full."""
        return _fill(self.transport)

    @property
    def memory(self) -> str:
        """How saved bytes grow with depth: none, flat or linear."""
        return _growth(self.saved_bytes)

    @property
    def live_memory(self) -> str:
        """How live bytes grow with depth: none, flat or linear."""
        return _growth(self.live_bytes)

    def row(self) -> dict:
        """The properties that a notebook states in advance and the overview compares."""
        return {
            "crossings": self.crossings,
            "locking": self.locking,
            "weight_transport": self.weight_transport,
            "memory": self.memory,
            "live_memory": self.live_memory,
            **{name: round(value, 3) for name, value in self.passes.items()},
        }

    def expect(self, **stated) -> None:
        """Raise AuditMismatch unless the measured row has the `stated` values."""
        row = self.row()
        wrong = [
            f"{name} is {row[name]!r}, not {value!r}"
            for name, value in stated.items()
            if row[name] != value
        ]
        if wrong:
            raise AuditMismatch("the audit differs from its row: " + "; ".join(wrong))

    def as_dict(self) -> dict:
        """For the record: the row, the matrices and the growth of memory."""
        rounded = [[_round(v) for v in row] for row in self.dependence]
        return self.row() | {
            "dependence": rounded,
            "transport": [[_round(v) for v in row] for row in self.transport],
            "flops": self.flops,
            "saved_bytes": {str(k): v for k, v in self.saved_bytes.items()},
            "live_bytes": {str(k): v for k, v in self.live_bytes.items()},
            "alignment": [_round(v) for v in self.alignment],
        }


def audit(
    build: Build,
    batch: tuple[Tensor, Tensor],
    depth: int = 4,
    depths=DEPTHS,
    seed: int = 0,
) -> Audit:
    """Audit the rule that ``build(depth)`` makes, a network of `depth` units.

    batch: a few samples (fewer than inputs of any unit, so that null spaces exist).
    depths: at which saved and live bytes are counted.
    Raises ContractError when `credit` is not a pure function or bypasses the units.
    """
    batch = tuple(t.double() if t.is_floating_point() else t for t in batch)
    rule = _probe(build, depth, seed)
    counted = cost.measure(rule, batch)
    grown = {d: cost.measure(_probe(build, d, seed), batch) for d in depths}
    return Audit(
        dependence=dependence(rule, batch),
        transport=transport(rule, batch),
        crossings=counted.crossings,
        units=len(rule.units),
        passes={
            k: getattr(counted, k) for k in ("forward", "backward", "jvp", "evaluations")
        },
        flops=counted.flops,
        saved_bytes={d: c.saved_bytes for d, c in grown.items()},
        live_bytes={d: c.live_bytes for d, c in grown.items()},
        alignment=alignment(rule, batch),
    )


def dependence(rule: LearningRule, batch) -> list[list[float]]:
    """D[l][m]: relative change of unit l's credit when unit m's weights change."""
    return _response(rule, batch, _perturb_anyhow)


def transport(rule: LearningRule, batch) -> list[list[float]]:
    """T[l][m]: the same, unit m's weights moving only where no forward pass sees it."""
    return _response(rule, batch, _perturb_unseen)


def _probe(build: Build, depth: int, seed: int) -> LearningRule:
    torch.manual_seed(seed)
    rule = build(depth).double()
    rule.check_contract()
    return rule


def _response(rule: LearningRule, batch, perturb) -> list[list[float]]:
    """Column m: changes of all units' credits after `perturb(rule, m, batch)`."""
    before = compute_credit(rule, batch)
    again = compute_credit(rule, batch)
    if any(not torch.equal(a, b) for a, b in zip(before, again, strict=True)):
        raise ContractError(
            f"{type(rule).__name__}.credit gave two answers to one question: it must be "
            "a pure function of parameters, batch and torch random state"
        )
    columns = []
    for m in range(len(rule.units)):
        changed = rule.clone()
        if perturb(changed, m, batch):
            after = compute_credit(changed, batch)
            columns.append([_change(a, b) for a, b in zip(before, after, strict=True)])
        else:
            columns.append([float("nan")] * len(rule.units))
    return [list(row) for row in zip(*columns, strict=True)]


def _change(before: Tensor, after: Tensor) -> float:
    """Relative change; 0 below the tolerance, so that round-off does not count."""
    scale = max(before.norm(), after.norm())
    change = float((after - before).norm() / scale) if scale > 0 else 0.0
    return change if change > TOLERANCE else 0.0


def _perturb_anyhow(rule: LearningRule, m: int, batch) -> bool:
    """Add noise to all weights of unit m; False if it has none."""
    generator = torch.Generator().manual_seed(m)
    parameters = list(rule.units[m].parameters())
    with torch.no_grad():
        for p in parameters:
            noise = torch.randn(p.shape, generator=generator, dtype=p.dtype)
            p += STEP * noise * p.std(correction=0).clamp_min(0.1)
    return bool(parameters)


def _perturb_unseen(rule: LearningRule, m: int, batch) -> bool:
    """Move unit m's matrices in the null space of their inputs; False if there is none.

    Raises ContractError when a forward pass changes all the same, which means that a
    weight is used outside of the unit's own linear and convolutional layers.
    """
    layers = _layers(rule)
    inputs, outputs = _watch(rule, layers, batch)
    moved = False
    generator = torch.Generator().manual_seed(m)
    for layer in _layers(rule.units[m]):
        rows = [_as_rows(layer, x) for x in inputs[layer]]
        step = _null_step(layer.weight, rows, generator)
        if step is not None:
            moved = True
            with torch.no_grad():
                layer.weight += step
    if moved:
        _, after = _watch(rule, layers, batch)
        pairs = (
            (a, b) for x in layers for a, b in zip(outputs[x], after[x], strict=True)
        )
        if not all(torch.allclose(a, b, rtol=1e-9, atol=1e-9) for a, b in pairs):
            raise ContractError(
                f"a step of unit {m} that its inputs cannot see changes a forward pass: "
                "call the unit as a module, with plain linear or convolutional layers"
            )
    return moved


def _layers(module: nn.Module) -> list[nn.Module]:
    return [x for x in module.modules() if isinstance(x, nn.Linear | nn.Conv2d)]


def _watch(rule: LearningRule, layers: list[nn.Module], batch):
    """All inputs and outputs of `layers` in one call of `credit`."""
    inputs = {layer: [] for layer in layers}
    outputs = {layer: [] for layer in layers}

    def hook(layer, args, output) -> None:
        inputs[layer].append(_plain(args[0]))
        outputs[layer].append(_plain(output))

    handles = [layer.register_forward_hook(hook) for layer in layers]
    compute_credit(rule, batch)
    for handle in handles:
        handle.remove()
    return inputs, outputs


def _plain(x: Tensor) -> Tensor:
    """The primal values of `x`, without tangents or hidden batch dimensions' wrappers."""
    while torch._C._functorch.is_functorch_wrapped_tensor(x):
        x = torch._C._functorch.get_unwrapped(x)
    return torch.autograd.forward_ad.unpack_dual(x.detach()).primal.clone()


def _as_rows(layer: nn.Module, x: Tensor) -> Tensor:
    """Activations as rows that the weight matrix multiplies."""
    if isinstance(layer, nn.Linear):
        return x.reshape(-1, layer.in_features)
    columns = F.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    return columns.transpose(1, 2).reshape(-1, columns.shape[1])


def _null_step(weight: Tensor, rows: list[Tensor], generator) -> Tensor | None:
    """A random step of `weight` orthogonal to all `rows`; None if they span the space."""
    matrix = weight.detach().reshape(len(weight), -1)
    noise = torch.randn(matrix.shape, generator=generator, dtype=matrix.dtype)
    if rows:
        _, values, vectors = torch.linalg.svd(torch.cat(rows), full_matrices=False)
        seen = vectors[values > 1e-9 * values.max().clamp_min(1e-30)]
        if len(seen) >= matrix.shape[1]:
            return None
        noise = noise - noise @ seen.T @ seen
    return (STEP * noise * matrix.std()).reshape(weight.shape)


def _fill(matrix: list[list[float]]) -> str:
    """How much of the upper triangle is not zero: none, part or full (NaN: unknown)."""
    size = len(matrix)
    upper = [matrix[l][m] for l in range(size) for m in range(l + 1, size)]
    defined = [v for v in upper if v == v]
    if not defined:
        return "undefined"
    if not any(defined):
        return "none"
    return "full" if all(defined) else "part"


def _growth(held: dict[int, int]) -> str:
    """none: no bytes; flat: the same at all depths but the smallest; else linear."""
    sizes = [held[depth] for depth in sorted(held)]
    if not any(sizes):
        return "none"
    return "flat" if len(set(sizes[1:])) == 1 else "linear"


def _round(value: float) -> float | None:
    return round(value, 6) if value == value else None
