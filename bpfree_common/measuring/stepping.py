"""Real training steps under observation.

What is audited must be what training does. So the steps are taken by a Lightning trainer,
through `training_step`, `step`, the optimisers, their hooks and all hooks of Lightning,
as `learning.training.fit` takes them; an observer hands out the batches, and so stands
between any two steps.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch

from bpfree_common.errors import ContractError
from bpfree_common.learning import training
from bpfree_common.learning.batches import Batches, Execution, Executions
from bpfree_common.learning.rule import LearningRule

Make = Callable[[], LearningRule]


class Observer:
    """Stands between training steps; does nothing unless a method is overridden."""

    def before(self, rule: LearningRule, step: int, batch) -> None:
        """Called before a step; `step` counts from the beginning of the run."""

    def during(self, rule: LearningRule, step: int, batch) -> AbstractContextManager:
        """A context that is open while the step runs, hooks included."""
        return nullcontext()

    def after(self, rule: LearningRule, step: int, batch) -> None:
        """Called after a step, before anything else of the training happens."""


class _Listed(list):
    """A list of batches that Lightning may tell the epoch."""

    def set_epoch(self, epoch: int) -> None:
        """The order is fixed."""


class _Handed(Executions):
    """The batches of an epoch, handed out one by one past an observer."""

    def __init__(self, rule, batches: Sequence, observer: Observer):
        super().__init__(_Listed(batches), len(batches))
        self.rule, self.observer, self.step = rule, observer, 0
        self.begun: list[Iterator] = []

    def __iter__(self) -> Iterator[Execution]:
        self.begun.append(self._steps())
        yield Execution(self.begun[-1], 0)

    def _steps(self):
        for batch in self.batches:
            step, self.step = self.step, self.step + 1
            self.observer.before(self.rule, step, batch)
            with self.observer.during(self.rule, step, batch):
                yield batch
            self.observer.after(self.rule, step, batch)

    def close(self) -> None:
        """Leave the context of a step that failed."""
        for steps in self.begun:
            steps.close()


def train(
    rule: LearningRule,
    batches: Sequence,
    observer: Observer | None = None,
    epochs: int = 1,
    seed: int = 0,
    same_draws: bool = False,
    validation: tuple | None = None,
) -> LearningRule:
    """Train `rule` for `epochs` times `batches`; its weights end as `fit` leaves them.

    batches: of one epoch, in order; each an (x, y) pair of tensors.
    same_draws: every step draws the same random numbers, so that equal steps have equal
        activations; else they are keyed by epoch and step, as in training.
    validation: an (x, y) pair that the rule is validated on after each epoch.
    NumPy's and Python's random states are fixed too, and put back.
    """
    rule.seed = seed
    rule.draws_alike = same_draws
    handed = _Handed(rule, batches, observer or Observer())
    slices = None if validation is None else Batches(*validation, len(validation[1]))
    loop = training.trainer(epochs)
    kept = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            loop.fit(rule, handed, slices)
    finally:
        handed.close()
        random.setstate(kept[0])
        np.random.set_state(kept[1])
        del rule.draws_alike  # that of the class: False
    return rule


def maker(build: Callable[[int], LearningRule], depth: int, seed: int = 0) -> Make:
    """A function that makes the rule of ``build(depth)`` anew, equal every time.

    It is built again, not copied, because a copy would share what a rule keeps in
    closures; only where `build` hands out one and the same object copies must do.
    Raises ContractError when two of them differ although the seed is the same.
    """

    def again() -> LearningRule:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return build(depth)

    first = again()
    first.check_contract()
    pristine = first.clone()
    second = again()
    if second is first:
        return pristine.clone
    pairs = zip(pristine.parameters(), second.parameters(), strict=True)
    if not all(torch.equal(a, b) for a, b in pairs):
        raise ContractError(
            f"{type(first).__name__} is built with other weights each time although the "
            "seed is fixed: draw them from PyTorch's random state"
        )
    return again
