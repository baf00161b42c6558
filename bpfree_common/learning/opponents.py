"""The arms that a learning rule is compared with, each a rule of its own.

`Backprop` on the rule's own network and `Frozen` are in every comparison; a family adds
what it needs: `DeepSupervision` for local losses, `SignSGD` where the sign alone may do
the work, `Checkpointing` and `Accumulation` where memory is claimed.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bpfree_common.errors import ContractError
from bpfree_common.learning.baselines import Backprop, Frozen
from bpfree_common.learning.optim import Recipe
from bpfree_common.learning.rule import LearningRule

__all__ = [
    "Accumulation",
    "Backprop",
    "Checkpointing",
    "DeepSupervision",
    "Frozen",
    "SignSGD",
    "Supervised",
]


class Checkpointing(Backprop):
    """Backpropagation that keeps the inputs of units only (Chen et al. 2016).

    The same gradient as `Backprop`, for one more forward pass of all units but the first.
    """

    def __init__(self, units: nn.ModuleList, optimizer: Recipe, loss=F.cross_entropy):
        super().__init__(units, optimizer, checkpointing=True, loss=loss)


class Accumulation(Backprop):
    """Backpropagation with gradient accumulation: one micro-batch in memory at a time.

    The gradient is that of the whole batch (a loss that is a mean over rows), however
    unequal the micro-batches are. Layers that mix rows, such as batch normalisation, see
    micro-batches instead.

    micro_batches: into how many parts of about equal size a batch is cut; a batch of
        fewer rows is cut into single rows. Raises ContractError if less than 1.
    """

    def __init__(
        self,
        units: nn.ModuleList,
        optimizer: Recipe,
        micro_batches: int = 4,
        loss=F.cross_entropy,
    ):
        super().__init__(units, optimizer, loss=loss)
        if micro_batches < 1:
            raise ContractError(
                f"micro_batches is {micro_batches}: give a number of 1 or more"
            )
        self.micro_batches = micro_batches

    def credit(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """The gradient of the mean loss, added up over the micro-batches."""
        x, y = batch
        total, parts = 0.0, min(self.micro_batches, len(y))
        for part in zip(x.tensor_split(parts), y.tensor_split(parts), strict=True):
            loss = self.objective(part) * (len(part[1]) / len(y))
            loss.backward()
            total = total + loss.detach()
        return {"loss": total}


class SignSGD(Backprop):
    """The sign of the gradient, the same size for every weight (Bernstein et al. 2018).

    The control for rules whose credit may be right in sign only. Use it with plain
    `sgd`: then every weight moves by the learning rate, or rests where the gradient is 0.
    """

    def credit(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """The sign of the gradient of the loss."""
        logged = super().credit(batch)
        for parameter in self.parameters():
            if parameter.grad is not None:
                parameter.grad.sign_()
        return logged


class Supervised(nn.Module):
    """A hidden unit with a linear head on its features; called, it gives the features.

    body: the unit. head: the classifier of `scores`.
    """

    def __init__(self, body: nn.Module, features: int, classes: int):
        super().__init__()
        self.body, self.head = body, nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        """The features of the unit."""
        return self.body(x)

    def scores(self, h: Tensor) -> Tensor:
        """Class scores (batch, classes) from features h."""
        return self.head(pooled(h))


def pooled(h: Tensor) -> Tensor:
    """(batch, channels, ...) -> (batch, channels): the mean over all positions."""
    return h.flatten(2).mean(2) if h.dim() > 2 else h


class DeepSupervision(LearningRule):
    """A linear head on every hidden unit, each trained on the labels (Lee et al. 2015).

    local: whether gradients stop between units. True: each unit learns from its own head
        alone, the control for every paper on local losses. False: the companion losses
        are added to the loss of the read-out and all is backpropagated.
    weight: factor of the companion losses, only where they are added; local losses do
        not compete.
    example: one or more inputs, from which the sizes of the heads are taken. Heads on
        features with positions (batch, channels, height, width) see their mean over the
        positions.
    loss: function of (scores, labels).

    `predict` is the read-out, the last unit; heads serve training only. Raises
    ContractError if there is no hidden unit.
    """

    def __init__(
        self,
        units: nn.ModuleList,
        optimizer: Recipe,
        example: Tensor,
        local: bool = True,
        weight: float = 1.0,
        loss=F.cross_entropy,
    ):
        super().__init__(supervised(units, example), optimizer)
        self.local, self.weight, self.loss = local, weight, loss

    def objective(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """The loss of the read-out; with the companion losses if they are added."""
        x, y = batch
        losses = self._losses(x, y)
        return losses[-1] if self.local else losses[-1] + self.weight * sum(losses[:-1])

    def credit(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """The gradient of each local loss in its own unit, or of the sum of losses."""
        if self.local:
            return {"loss": self._credit_locally(*batch)}
        loss = self.objective(batch)
        loss.backward()
        return {"loss": loss.detach()}

    def _losses(self, x: Tensor, y: Tensor) -> list[Tensor]:
        """The loss of each unit, nothing detached; only the read-out's if local."""
        losses = []
        for unit in self.units[:-1]:
            x = unit(x)
            if not self.local:
                losses.append(self.loss(unit.scores(x), y))
        return [*losses, self.loss(self.units[-1](x), y)]

    def _credit_locally(self, x: Tensor, y: Tensor) -> Tensor:
        """One unit after the other, so that one unit's activations are kept at a time."""
        for unit in self.units[:-1]:
            x = unit(x.detach())
            self.loss(unit.scores(x), y).backward()
        loss = self.loss(self.units[-1](x.detach()), y)
        loss.backward()
        return loss.detach()


def supervised(units: nn.ModuleList, example: Tensor) -> nn.ModuleList:
    """The hidden units as `Supervised` ones, and the read-out as it is."""
    if len(units) < 2:
        raise ContractError("deep supervision needs a hidden unit: give 2 units or more")
    *hidden, readout = units
    features, x = [], example[:1]
    training = units.training
    units.eval()  # one example has no statistics, and dropout would draw numbers
    with torch.no_grad():
        for unit in hidden:
            x = unit(x)
            features.append(pooled(x).shape[1])
        classes = readout(x).shape[1]
    units.train(training)
    heads = [Supervised(u, n, classes) for u, n in zip(hidden, features, strict=True)]
    return nn.ModuleList([*heads, readout])
