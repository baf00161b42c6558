"""The audit for a training loop of your own.

def model(depth):
    net = nn.Sequential(*[Block(64) for _ in range(depth)])
    return net, torch.optim.SGD(net.parameters(), 0.1)

def step(net, optimizer, batch):
    x, y = batch
    optimizer.zero_grad()
    F.cross_entropy(net(x), y).backward()
    optimizer.step()

print(audit_step(model, step, (x, y)).row())
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bpfree_common.errors import ContractError
from bpfree_common.learning.rule import LearningRule
from bpfree_common.measuring.audit import Audit, audit


def audit_step(
    model: Callable[[int], nn.Module | tuple],
    step: Callable,
    batch: tuple[Tensor, Tensor],
    objective: Callable[[Tensor, Tensor], Tensor] | None = None,
    **options,
) -> Audit:
    """Audit the training step of a model that knows nothing of this laboratory.

    model: depth -> a module, or a tuple of a module and what else `step` needs (its
        optimiser, say). Its units are its children that have parameters, in order; with
        the same random seed it must make the same weights.
    step: called as ``step(module, *the rest, batch)``; it changes the weights.
    batch: a few samples (x, y), fewer than inputs of any layer.
    objective: of (module(x), y), for the alignment; the cross-entropy by default.
    options: of `measuring.audit.audit`.
    Raises ContractError when a parameter belongs to no child, or to two.
    """
    return audit(lambda depth: Foreign(model(depth), step, objective), batch, **options)


class Foreign(LearningRule):
    """A model and a step function as a rule: `step` is theirs, no optimiser is ours."""

    def __init__(self, made, step: Callable, objective: Callable | None = None):
        module, *rest = made if isinstance(made, tuple) else (made,)
        children = [c for c in module.children() if any(True for _ in c.parameters())]
        super().__init__(nn.ModuleList(children), None)
        if not children:
            raise ContractError(
                "the model has no child with parameters: put its layers in submodules"
            )
        self.module, self.rest = module, rest
        self.take, self.loss = step, objective or nn.functional.cross_entropy

    def forward(self, x: Tensor) -> Tensor:
        """The model's own forward pass."""
        return self.module(x)

    def objective(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """The loss of the model's output."""
        return self.loss(self.module(batch[0]), batch[1])

    def configure_optimizers(self) -> None:
        """The step brings its own."""

    def step(self, batch) -> None:
        """The step of the model's own training loop."""
        with torch.enable_grad():
            self.take(self.module, *self.rest, batch)
