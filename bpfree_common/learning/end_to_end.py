"""Backpropagation through a rule's own prediction, whatever its network is."""

from torch import Tensor
from torch.nn import functional as F

from bpfree_common.learning.rule import LearningRule


class EndToEnd(LearningRule):
    """A rule's own network and prediction, trained by the gradient of its cross-entropy.

    For networks that are no chain of plain layers. frozen: in each unit only the last
    module with parameters learns.
    """

    def __init__(self, rule: LearningRule, frozen: bool = False):
        super().__init__(rule.units, rule.recipe)
        self.rule = rule
        for unit in self.units if frozen else []:
            owners = [m for m in unit.modules() if [*m.parameters(recurse=False)]]
            for module in owners[:-1]:
                module.requires_grad_(False)

    def predict(self, x: Tensor) -> Tensor:
        """The rule's own prediction: class scores (batch, classes)."""
        return self.rule.predict(x)

    def credit(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """The gradient of the cross-entropy of the prediction."""
        x, y = batch
        loss = F.cross_entropy(self.predict(x), y)
        loss.backward()
        return {"loss": loss.detach()}
