"""Training to convergence: until validation has stopped rising, then a cooled end.

A budget of equal passes favours rules that learn fast. Here every rule decides by the
same criterion how long it trains: at a constant rate until the validation metric has not
risen for some epochs, or a cap is near, and then with the rate falling linearly to zero.
"""

from torch.optim import Optimizer

from bpfree_common.errors import ContractError
from bpfree_common.learning.cooling import Cooling


class Converging(Cooling):
    """Ends a fit when its validation metric has stopped rising; see the module.

    patience: epochs in a row without a new best metric, after which cooling begins.
    tail: epochs over which the rates then fall linearly to zero, the last step having
        1 / steps of the rate. cooled_from: the epoch after which they began to fall.
    It begins `tail` epochs before the fit's last at the latest: the fit's `epochs` are
    the cap. Use it without `cool`. Raises ContractError if a number is less than 1 or
    the cap leaves no epoch before the tail.
    """

    def __init__(self, patience: int, tail: int):
        if min(patience, tail) < 1:
            raise ContractError(
                f"patience {patience} and tail {tail} must be 1 epoch or more"
            )
        self.patience, self.tail = patience, tail
        self.best, self.waited = float("-inf"), 0
        self.cooled_from: int | None = None

    def on_train_start(self, trainer, rule) -> None:
        """Hook into the optimisers that the rule has configured."""
        super().on_train_start(trainer, rule)
        if trainer.max_epochs <= self.tail:
            raise ContractError(
                f"a cap of {trainer.max_epochs} epochs leaves none before a tail of "
                f"{self.tail}: raise it"
            )

    def on_train_epoch_end(self, trainer, rule) -> None:
        """Decide whether cooling begins, or whether the run ends."""
        done = rule.current_epoch + 1
        if self.cooled_from is None:
            value = rule.row["validation"]
            self.waited = 0 if value > self.best else self.waited + 1
            self.best = max(self.best, value)
            if self.waited >= self.patience or done >= trainer.max_epochs - self.tail:
                self.cooled_from = done
        elif done >= self.cooled_from + self.tail:
            trainer.should_stop = True

    def factor(self) -> float:
        """What multiplies the rates of the step that is going on."""
        if self.cooled_from is None:
            return 1.0
        per_epoch = self.rule.steps_per_epoch
        begun = self.rule.steps_taken - self.cooled_from * per_epoch
        return 1.0 - begun / (self.tail * per_epoch)

    def _cool(self, optimizer: Optimizer, *_) -> None:
        groups, factor = optimizer.param_groups, self.factor()
        self.uncooled[id(optimizer)] = [group["lr"] for group in groups]
        for group in groups:
            group["lr"] = group["lr"] * factor
