"""Training a rule: a silent Lightning trainer, resumable runs, evaluation."""

import functools
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import lightning as L
import torch
from lightning.fabric.utilities import registry
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import Logger
from torch import Tensor

from bpfree_common import progress
from bpfree_common.data.tasks import Data
from bpfree_common.errors import ContractError, DeviceError
from bpfree_common.learning.alignment import alignment
from bpfree_common.learning.batches import Batches, Executions
from bpfree_common.learning.cooling import Cooling
from bpfree_common.learning.rule import LearningRule

EVALUATION_BATCH = 2_000  #: samples per slice when a metric is computed
PRECISIONS = ("highest", "high", "medium")  #: of products of float32 matrices
STEPS_PER_EXECUTION = 128  #: training steps that Lightning starts at once


@dataclass
class Run:
    """One trained rule: its hyper-parameters, learning curve and test metric.

    validation, test: of the trained rule; `test` is NaN where the test split was not
    touched. seconds: of training, on the wall. updates: optimiser steps that each
    optimiser took, on average over the rule's optimisers.
    """

    arm: str
    seed: int
    hyper: dict
    rule: LearningRule
    history: list[dict] = field(default_factory=list)
    validation: float = float("nan")
    test: float = float("nan")
    seconds: float = 0.0
    updates: int = 0


class _Watch(Callback):
    """Reports progress and, if asked, the alignment with the gradient per epoch."""

    def __init__(self, stage: str, batch: tuple[Tensor, Tensor] | None):
        self.stage, self.batch = stage, batch

    def on_train_start(self, trainer, rule: LearningRule) -> None:
        """Alignment at initialisation is the row of epoch 0."""
        progress.report(self.stage, rule.current_epoch, trainer.max_epochs)
        if self.batch is not None and not rule.history:
            rule.history.append({"epoch": 0, "alignment": alignment(rule, self.batch)})

    def on_train_epoch_end(self, trainer, rule: LearningRule) -> None:
        """Runs before the rule closes the row of this epoch."""
        progress.report(self.stage, rule.current_epoch + 1, trainer.max_epochs)
        if self.batch is not None:
            rule.row["alignment"] = alignment(rule, self.batch)


def lr_grid(centre: float, points: int, factor: float = 3.0) -> list[float]:
    """Learning rates around `centre`, each `factor` times the last; `points` is odd."""
    half = points // 2
    return [float(f"{centre * factor**k:.3g}") for k in range(-half, points - half)]


def device() -> torch.device:
    """The GPU when there is one, else the CPU; `BPFREE_DEVICE` (cpu, cuda) decides.

    Raises DeviceError when the device that it names cannot be used.
    """
    default = "cuda" if torch.cuda.is_available() else "cpu"
    wanted = os.environ.get("BPFREE_DEVICE", default)
    try:
        torch.empty(0, device=wanted)
        return torch.device(wanted)
    except (RuntimeError, AssertionError) as error:  # a build without CUDA asserts
        reason = str(error).partition("\n")[0]
        raise DeviceError(
            f"BPFREE_DEVICE={wanted!r} cannot be used ({reason}): set it to 'cpu'"
        ) from None


def precision() -> str:
    """How float32 matrices are multiplied in a run at a paper's scale.

    `BPFREE_PRECISION` decides: `highest` (the default), `high`, or `medium`, which is
    bfloat16 where the processor has it. Raises DeviceError for another word.
    """
    wanted = os.environ.get("BPFREE_PRECISION", "highest")
    if wanted not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise DeviceError(f"BPFREE_PRECISION={wanted!r} is none of {known}")
    return wanted


@contextmanager
def multiplying(precision: str) -> Iterator[None]:
    """A block in which float32 matrices are multiplied with `precision`."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def silence() -> None:
    """Quiet Lightning's start-up lines and tips: they carry machine facts."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")
    warnings.filterwarnings("ignore", message=".*Sparse CSR.*")
    warnings.filterwarnings("ignore", message=".*IProgress.*")
    _ask_packages_once()


def _ask_packages_once() -> None:
    """Remember which installed packages bring callbacks.

    Lightning reads the metadata of all of them for every trainer, which takes as long
    as forty steps of a small network; they do not change while a process runs.
    """
    if not hasattr(registry.entry_points, "cache_info"):
        registry.entry_points = functools.cache(registry.entry_points)


def trainer(epochs: int, **options) -> L.Trainer:
    """A Lightning trainer without what costs time or prints: see `fit` for use."""
    silence()
    defaults = {
        "accelerator": "gpu" if device().type == "cuda" else "cpu",
        "devices": 1,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "default_root_dir": os.devnull,
    }
    return L.Trainer(max_epochs=epochs, **(defaults | options))


def fit(
    rule: LearningRule,
    data: Data,
    epochs: int,
    batch_size: int,
    seed: int = 0,
    stage: str = "training",
    track_alignment: bool = False,
    checkpoint: Path | None = None,
    steps_per_execution: int = STEPS_PER_EXECUTION,
    cool: bool = False,
    callbacks: Iterable[Callback] = (),
    logger: Logger | None = None,
    precision: str = "highest",
) -> LearningRule:
    """Train `rule` on the training split, validating after each epoch.

    track_alignment: keep the cosine with the true gradient, per unit and epoch, on the
        first validation samples.
    checkpoint: folder of a resumable run; a run that was interrupted goes on from its
        last epoch and ends bit for bit as if it had not been.
    steps_per_execution: steps between two rounds of Lightning's hooks for a batch, which
        cost as much as a step of a small network. The result does not depend on it.
    cool: multiply every learning rate by 1 in the first half of all steps and by
        ``2 (1 - s / S)`` in the second, where s of the S steps lie behind: linearly
        towards zero, the last step at 2 / S. Whatever a rule's own schedule sets is
        multiplied. A run of another length cools otherwise, so that it does not go on
        from this run's checkpoint.
    callbacks: further ones of Lightning's. logger: one of Lightning's, which is given
        every row of the rule's history when its epoch ends.
    precision: of products of float32 matrices while training: see `precision`.

    Raises ValueError if that is less than one.
    """
    if steps_per_execution < 1:
        raise ValueError(
            f"steps_per_execution is {steps_per_execution}: give a number of 1 or more"
        )
    rule.seed = seed
    data = data.to(device())
    watch = _Watch(stage, _probe(data) if track_alignment else None)
    callbacks = [watch, *callbacks] + [Cooling()] * cool
    options = {"callbacks": callbacks, "logger": logger or False}
    resume = None
    if checkpoint is not None:
        name = f"cooled-{epochs}" if cool else "last"
        keep = ModelCheckpoint(checkpoint, filename=name, enable_version_counter=False)
        callbacks.append(keep)
        options["enable_checkpointing"] = True
        last = Path(checkpoint) / f"{name}.ckpt"
        resume = last if last.is_file() else None
    train = Batches(data.x_train, data.y_train, batch_size, shuffle_seed=seed)
    val = Batches(data.x_val, data.y_val, EVALUATION_BATCH)
    loop = trainer(epochs, **options)
    with multiplying(precision):
        loop.fit(rule, Executions(train, steps_per_execution), val, ckpt_path=resume)
    return rule


def _probe(data: Data) -> tuple[Tensor, Tensor]:
    return data.x_val[:256], data.y_val[:256]


@torch.no_grad()
def evaluate(rule: LearningRule, x: Tensor, y: Tensor, seed: int = 0) -> float:
    """The mean of `rule.score` over a split, with a fixed random state."""
    training = rule.training
    rule.eval()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        scores = [rule.score(batch) for batch in Batches(x, y, EVALUATION_BATCH)]
    rule.train(training)
    return float(torch.cat(scores).mean())


def train(
    arm: str,
    build: Callable[..., LearningRule],
    hyper: dict,
    task: Data,
    seed: int,
    epochs: int,
    batch_size: int,
    cool: bool = True,
    test: bool = True,
    **more,
) -> Run:
    """Build the rule of an arm with `seed`, train it, and measure it.

    build: ``build(**hyper)`` makes the rule, from PyTorch's random state. test: whether
        the run is reported; a tuning run never touches the test split. While a rule
        trains, the test split is out of its reach. cool and more: options of `fit`.

    Raises ContractError if measuring the rule changes it.
    """
    torch.manual_seed(seed)
    rule = build(**hyper)
    seen = task.without_test()
    start = time.perf_counter()
    more["callbacks"] = [*more.get("callbacks", ()), _Unchanged()]
    stage = f"{arm}, seed {seed}"
    fit(rule, seen, epochs, batch_size, seed, stage=stage, cool=cool, **more)
    seconds = time.perf_counter() - start
    rule.to(device())
    run = Run(arm, seed, hyper, rule, rule.history, seconds=seconds)
    run.updates = rule.global_step // max(1, len(rule.trainer.optimizers))
    with unchanged(rule):
        run.validation = evaluate(rule, *seen.to(device()).split("val"))
    if test:
        with unchanged(rule):
            run.test = evaluate(rule, *task.to(device()).split("test"))
    return run


@contextmanager
def unchanged(rule: LearningRule) -> Iterator[None]:
    """A block that may measure `rule`, but raises ContractError if it changes a tensor.

    Parameters, their gradients, and buffers are watched; not what is in plain attributes.
    """
    before = {n: t.clone() for n, t in _state(rule).items()}
    yield
    now = _state(rule)
    for name in {**before, **now}:
        if name not in before or name not in now or _differ(before[name], now[name]):
            raise ContractError(
                f"measuring {type(rule).__name__} changed its {name}: `predict` and"
                " `score` may only read"
            )


def _state(rule: LearningRule) -> dict[str, Tensor]:
    """Parameters, gradients that there are, and buffers; graphs are fixed."""
    grads = {f"{n}.grad": p.grad for n, p in rule.named_parameters()}
    found = dict(rule.named_parameters()) | dict(rule.named_buffers()) | grads
    return {
        n: t.detach()
        for n, t in found.items()
        if t is not None and t.layout == torch.strided
    }


def _differ(a: Tensor, b: Tensor) -> bool:
    """Whether any number differs; a run that diverged is full of equal NaN."""
    return a.shape != b.shape or not bool((a.eq(b) | (a.ne(a) & b.ne(b))).all())


class _Unchanged(Callback):
    """Holds `unchanged` over each validation during training."""

    def on_validation_start(self, trainer, rule: LearningRule) -> None:
        """Note the state of the rule."""
        self.block = unchanged(rule)
        self.block.__enter__()

    def on_validation_end(self, trainer, rule: LearningRule) -> None:
        """Compare it."""
        self.block.__exit__(None, None, None)
