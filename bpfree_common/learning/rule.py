"""The contract of a learning rule.

A rule answers three questions: which groups of parameters learn (`units`), what credit
each parameter gets from a batch (`credit`), and what the network predicts (`predict`).
The base class does the rest: it zeroes, steps, schedules, averages across ranks, keys
randomness by step, and keeps the history that the figures draw.
"""

import copy

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor, nn
from torch.nn import functional as F

from bpfree_common.errors import ContractError
from bpfree_common.learning.batches import Execution, Executions, step_seed
from bpfree_common.learning.optim import Recipe

#: What the laboratory calls, and an attribute of the same name would hide.
_METHODS = ("credit", "predict", "forward", "objective", "score", "rows", "step", "clone")


class LearningRule(L.LightningModule):
    """Base class of every rule. Subclasses write `credit` and `predict`.

    units: `nn.ModuleList`, the ordered groups of parameters that learn together. Every
        parameter of the rule belongs to exactly one unit.
    optimizer: a recipe of `bpfree_common.learning.optim`, for the trainable parameters.
    period: steps after which the rule's work repeats; costs are averaged over them. A
        counter that `credit` keeps is a buffer.
    """

    period = 1
    #: Whether every step draws the same random numbers, so that equal steps are equal:
    #: for measurements, never for training.
    draws_alike = False

    def __init__(self, units: nn.ModuleList, optimizer: Recipe):
        super().__init__()
        self.automatic_optimization = False
        self.units = units
        self.recipe = optimizer
        self.seed = 0
        self.steps_taken = 0  # training steps before the one that is going on
        self.history: list[dict] = []  # one row per epoch
        self.row: dict = {}  # what is known of the current epoch
        self._listened = True  # see `_step_optimizer`
        self._laid_out = False  # whether `_check_layout` has looked in this fit
        self._logged: list[dict] = []
        self._scored: list[Tensor] = []

    # --- what a rule writes --------------------------------------------------------

    def credit(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """Write each parameter's descent direction into `.grad`; return scalars to log.

        A pure function of the parameters, the batch and the torch random state: no
        optimiser step and no change of weights, so that the audit may call it again and
        again. `.grad` is None on entry. Return detached scalars.
        """
        raise NotImplementedError

    def predict(self, x: Tensor) -> Tensor:
        """Class scores of shape (batch, classes); differentiable. Default: `forward`."""
        return self(x)

    # --- what a rule may change ----------------------------------------------------

    def forward(self, x: Tensor) -> Tensor:
        """The units in order."""
        for unit in self.units:
            x = unit(x)
        return x

    def objective(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """The global loss whose gradient the credit is compared with. A scalar."""
        x, y = batch
        return F.cross_entropy(self.predict(x), y)

    def score(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """One number per sample whose mean is the metric. Default: correct or not."""
        x, y = batch
        return (self.predict(x).argmax(1) == y).to(torch.float32)

    def rows(self, batch: tuple[Tensor, Tensor]) -> int:
        """Rows of one forward pass; a rule that always runs a whole graph says so."""
        return len(batch[1])

    def configure_optimizers(self):
        """One optimiser over all trainable parameters, from the recipe.

        Raises ContractError if there are none.
        """
        trainable = [p for p in self.parameters() if p.requires_grad]
        if not trainable:
            raise ContractError(f"{type(self).__name__} has no parameter to train")
        return self.recipe(trainable)

    # --- what the laboratory does --------------------------------------------------

    def clone(self) -> "LearningRule":
        """A deep copy with weights of its own; graphs, which never change, are shared."""
        graphs = {id(b): b for b in self.buffers() if b.layout != torch.strided}
        return copy.deepcopy(self, graphs)

    def check_contract(self) -> None:
        """Raise ContractError unless every parameter belongs to exactly one unit.

        Also if there is no unit, as of a network without layers.
        """
        if len(self.units) == 0:
            raise ContractError(
                f"{type(self).__name__} has no unit: a network needs one layer or more"
            )
        for name in _METHODS:
            if not callable(getattr(self, name)):
                raise ContractError(
                    f"{type(self).__name__} sets `self.{name}`, which hides the method "
                    f"{name}() of every rule: give the attribute another name"
                )
        owned = [p for unit in self.units for p in unit.parameters()]
        if len({id(p) for p in owned}) != len(owned):
            raise ContractError("two units share a parameter: give it to one of them")
        names = {id(p) for p in owned}
        stray = [n for n, p in self.named_parameters() if id(p) not in names]
        if stray:
            raise ContractError(
                f"parameter {stray[0]!r} belongs to no unit: put its module in `units`"
            )

    def setup(self, stage: str) -> None:
        """Lightning's hook before a fit."""
        self.check_contract()

    def training_step(self, batch, batch_idx: int) -> None:
        """Lightning's hook: the steps of an execution, or a single batch."""
        one = not isinstance(batch, Execution)
        batches, first = ([batch], batch_idx) if one else (batch.batches, batch.first)
        before = self.current_epoch * self.steps_per_epoch
        seed = step_seed(self.seed, self.current_epoch, 0) + 7_919 * self.global_rank
        stride = 1
        if self.draws_alike:
            seed, stride = self.seed, 0
        cuda = self.device.type == "cuda"
        for index, each in enumerate(batches, first):
            # `nn.Module.__setattr__` takes longer than all else in this loop
            object.__setattr__(self, "steps_taken", before + index)
            # keyed by step, so that a resumed run equals an uninterrupted one;
            # `torch.manual_seed` would format three stack traces for absent devices
            torch.default_generator.manual_seed(seed + stride * index)
            if cuda:
                torch.cuda.manual_seed(seed + stride * index)
            self.step(each)

    def step(self, batch) -> None:
        """One training step: zero, credit, average across ranks, step, schedule.

        A rule that does something after every step extends it: Lightning's own hooks for
        a batch come once in an execution, after several steps (see `training.fit`).
        """
        optimizers = self.optimizers()
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        for optimizer in optimizers:
            optimizer.optimizer.zero_grad(set_to_none=True)
        self._logged.append(self.credit(batch))
        if not self._laid_out:
            self._check_layout()
        if self.trainer.world_size > 1:
            self._average_credit()
        for optimizer in optimizers:
            self._step_optimizer(optimizer)
        self._schedule("step")

    def _check_layout(self) -> None:
        """Raise ContractError if a credit lies in memory otherwise than its parameter.

        Fused optimisers would take its numbers in another order, without a word.
        """
        for name, p in self.named_parameters():
            if p.grad is None or p.grad.layout != torch.strided:
                continue
            places = zip(p.shape, p.stride(), p.grad.stride(), strict=True)
            if any(size > 1 and one != other for size, one, other in places):
                raise ContractError(
                    f"the credit of {name!r} lies in memory otherwise than the parameter "
                    "(channels_last?): write `p.grad = torch.empty_like(p).copy_(credit)`"
                )
        self._laid_out = True

    def _step_optimizer(self, optimizer: LightningOptimizer) -> None:
        """`optimizer.step()`, without the calls around it when nothing listens to them.

        Lightning's own takes as long as half the backward pass of a small network. What
        counts the steps, for `global_step` and checkpoints, stays.
        """
        if self._listened:
            optimizer.step()
            return
        optimizer._on_before_step()
        optimizer.optimizer.step()
        optimizer._on_after_step()

    def on_fit_start(self) -> None:
        """Lightning's hook: does precision or a hook take part in optimiser steps?"""
        plain = type(self.trainer.precision_plugin) is Precision
        plain &= isinstance(self.trainer.strategy, (SingleDeviceStrategy, DDPStrategy))
        hook = "on_before_optimizer_step"
        heard = is_overridden(hook, self) or any(
            is_overridden(hook, callback, Callback) for callback in self.trainer.callbacks
        )
        self._listened = heard or not plain
        self._laid_out = False

    @property
    def steps_per_epoch(self) -> int:
        """Training steps in an epoch of the fit that is going on."""
        loader = self.trainer.train_dataloader
        return len(loader.batches if isinstance(loader, Executions) else loader)

    def _average_credit(self) -> None:
        """One reduction for all credits: the mean over the ranks."""
        grads = [p.grad for p in self.parameters() if p.grad is not None]
        flat = torch.cat([g.flatten() for g in grads])
        flat = self.trainer.strategy.reduce(flat, reduce_op="mean")
        for grad, part in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
            grad.copy_(part.view_as(grad))

    def _schedule(self, interval: str) -> None:
        for config in self.trainer.lr_scheduler_configs:
            if config.interval == interval:
                config.scheduler.step()

    def validation_step(self, batch, batch_idx: int) -> None:
        """Collect the scores of one slice of the validation data."""
        self._scored.append(self.score(batch))

    def on_validation_epoch_end(self) -> None:
        """The metric on the whole validation split; every rank sees all of it."""
        self.row["validation"] = float(torch.cat(self._scored).mean())
        self._scored.clear()

    def on_train_epoch_end(self) -> None:
        """One row of history per epoch: logged means and the validation metric."""
        logged, self._logged = self._logged, []
        row = {"epoch": self.current_epoch + 1} | self.row
        for name in dict.fromkeys(key for entry in logged for key in entry):
            values = [entry[name] for entry in logged if name in entry]
            row[name] = float(torch.stack(values).mean())
        self.history.append(row)
        for logger in self.trainer.loggers:
            logger.log_metrics(_flat(row), step=row["epoch"])
        self.row = {}
        self._schedule("epoch")

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Checkpoints carry the history, so that a resumed run has all its rows."""
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """The counterpart of `on_save_checkpoint`."""
        self.history = checkpoint["history"]


def _flat(row: dict) -> dict[str, float]:
    """A row of the history for a logger: what it has by unit, under the unit's number."""
    flat = {}
    for name, value in row.items():
        if isinstance(value, list):
            flat |= {f"{name}/{unit}": each for unit, each in enumerate(value)}
        else:
            flat[name] = value
    return flat
