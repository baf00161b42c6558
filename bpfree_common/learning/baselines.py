"""The two controls every notebook trains: backpropagation and frozen hidden layers."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from bpfree_common.learning.optim import Recipe
from bpfree_common.learning.rule import LearningRule


class Backprop(LearningRule):
    """Backpropagation of a loss through all units (Rumelhart et al. 1986).

    checkpointing: keep only the inputs of units and compute the rest again during the
        backward pass (Chen et al. 2016). The first unit is kept as it is, because its
        input needs no gradient.
    loss: function of (scores, labels); the mean cross-entropy by default.
    """

    def __init__(
        self,
        units: nn.ModuleList,
        optimizer: Recipe,
        checkpointing: bool = False,
        loss=F.cross_entropy,
    ):
        super().__init__(units, optimizer)
        self.checkpointing = checkpointing
        self.loss = loss

    def forward(self, x: Tensor) -> Tensor:
        """The units in order, recomputed in the backward pass if checkpointing."""
        first, *rest = self.units
        x = first(x)
        for unit in rest:
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(unit, x, use_reentrant=True)
            else:
                x = unit(x)
        return x

    def objective(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """The loss that is minimised."""
        x, y = batch
        return self.loss(self.predict(x), y)

    def credit(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """The gradient of the loss."""
        loss = self.objective(batch)
        loss.backward()
        return {"loss": loss.detach()}


class Frozen(Backprop):
    """The control: hidden units keep their initial weights, the last unit is trained.

    A rule that does not beat it has learned nothing in its hidden layers.
    """

    def __init__(self, units: nn.ModuleList, optimizer: Recipe, loss=F.cross_entropy):
        super().__init__(units, optimizer, loss=loss)
        self.units[:-1].requires_grad_(False)
