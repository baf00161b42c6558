"""Cooling: every learning rate falls linearly to zero over the second half of a run.

With a constant rate the noise of the last epoch is as large as the differences between
rules; cooling removes most of it at no cost (see `training.fit`).
"""

from lightning.pytorch.callbacks import Callback
from torch.optim import Optimizer


def cooled(taken: int, steps: int) -> float:
    """The factor on the rates of a step when `taken` of `steps` lie behind.

    1 in the first half, then ``2 (1 - taken / steps)``; the last step has 2 / steps.
    """
    return min(1.0, 2.0 * (1.0 - taken / steps))


class Cooling(Callback):
    """Multiplies the rates of all optimisers by `cooled` while they step.

    A rate is scaled right before `Optimizer.step` and put back right after, so that a
    rule's own schedule, hooks and checkpoints only ever see the rate that they set. All
    optimiser steps of one training step have the same factor.
    """

    def on_train_start(self, trainer, rule) -> None:
        """Hook into the optimisers that the rule has configured."""
        self.rule, self.steps = rule, trainer.max_epochs * rule.steps_per_epoch
        self.uncooled: dict[int, list[float]] = {}
        self.handles = []
        for optimizer in trainer.optimizers:
            # the last hook before a step and the first one after it, so that a rule's
            # own hooks find the rate that they left
            self.handles.append(optimizer.register_step_pre_hook(self._cool))
            after = optimizer.register_step_post_hook(self._restore)
            optimizer._optimizer_step_post_hooks.move_to_end(after.id, last=False)
            self.handles.append(after)

    def teardown(self, trainer, rule, stage: str) -> None:
        """Leave the optimisers as they were, also after an error."""
        for handle in self.__dict__.pop("handles", ()):
            handle.remove()

    def _cool(self, optimizer: Optimizer, *_) -> None:
        groups = optimizer.param_groups
        self.uncooled[id(optimizer)] = [group["lr"] for group in groups]
        factor = cooled(self.rule.steps_taken, self.steps)
        for group in groups:
            group["lr"] = group["lr"] * factor

    def _restore(self, optimizer: Optimizer, *_) -> None:
        rates = self.uncooled.pop(id(optimizer))
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
