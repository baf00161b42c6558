"""Training a rule: batches as slices, a silent Lightning trainer, resumable runs."""

import logging
import os
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor

from bpfree_common import progress
from bpfree_common.alignment import alignment
from bpfree_common.data import Data
from bpfree_common.rule import LearningRule, step_seed

EVALUATION_BATCH = 2_000  #: samples per slice when a metric is computed


class Batches:
    """Batches of a split as index slices of tensors in memory.

    The order is drawn anew each epoch, keyed by (seed, epoch) alone. With several ranks
    each takes its share of every batch. An incomplete last batch is dropped when
    shuffling, so that every step has the same cost.
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        size: int,
        shuffle_seed: int | None = None,
        rank: int = 0,
        ranks: int = 1,
    ):
        self.x, self.y = x, y
        self.size = min(size, len(y))
        self.shuffle_seed = shuffle_seed
        self.rank, self.ranks = rank, ranks
        self.epoch = 0
        self.sampler, self.batch_sampler = self, None  # Lightning calls `set_epoch`

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of this epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        if self.shuffle_seed is None:
            return -(-len(self.y) // self.size)
        return len(self.y) // self.size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self.shuffle_seed is None:
            yield from zip(self.x.split(self.size), self.y.split(self.size), strict=True)
            return
        generator = torch.Generator().manual_seed(
            step_seed(self.shuffle_seed, self.epoch, 0)
        )
        order = torch.randperm(len(self.y), generator=generator).to(self.x.device)
        for indices in order.split(self.size)[: len(self)]:
            indices = indices[self.rank :: self.ranks]
            yield self.x[indices], self.y[indices]


@dataclass
class Run:
    """One trained rule: its hyper-parameters, learning curve and test metric."""

    arm: str
    seed: int
    hyper: dict
    rule: LearningRule
    history: list[dict] = field(default_factory=list)
    validation: float = float("nan")
    test: float = float("nan")
    seconds: float = 0.0


class _Watch(Callback):
    """Reports progress and, if asked, the alignment with the gradient per epoch."""

    def __init__(self, stage: str, batch: tuple[Tensor, Tensor] | None):
        self.stage, self.batch = stage, batch

    def on_train_start(self, trainer, rule: LearningRule) -> None:
        """Alignment at initialisation is the row of epoch 0."""
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
    """The GPU when there is one, else the CPU; `BPFREE_DEVICE` (cpu, cuda) decides."""
    default = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(os.environ.get("BPFREE_DEVICE", default))


def silence() -> None:
    """Quiet Lightning's start-up lines and tips: they carry machine facts."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")
    warnings.filterwarnings("ignore", message=".*Sparse CSR.*")
    warnings.filterwarnings("ignore", message=".*IProgress.*")


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
) -> LearningRule:
    """Train `rule` on the training split, validating after each epoch.

    track_alignment: keep the cosine with the true gradient, per unit and epoch, on the
        first validation samples.
    checkpoint: folder of a resumable run; a run that was interrupted goes on from its
        last epoch and ends bit for bit as if it had not been.
    """
    rule.seed = seed
    callbacks: list[Callback] = [_Watch(stage, _probe(data) if track_alignment else None)]
    options = {"callbacks": callbacks}
    resume = None
    if checkpoint is not None:
        keep = ModelCheckpoint(checkpoint, filename="last", enable_version_counter=False)
        callbacks.append(keep)
        options["enable_checkpointing"] = True
        last = Path(checkpoint) / "last.ckpt"
        resume = last if last.is_file() else None
    train = Batches(data.x_train, data.y_train, batch_size, shuffle_seed=seed)
    val = Batches(data.x_val, data.y_val, EVALUATION_BATCH)
    trainer(epochs, **options).fit(rule, train, val, ckpt_path=resume)
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


def train_arm(
    arm: str,
    build,
    hyper: dict,
    data: Data,
    seed: int,
    epochs: int,
    batch_size: int,
    **more,
) -> Run:
    """Build the rule of an arm with `seed`, train it, measure it once on test data."""
    torch.manual_seed(seed)
    rule = build(**hyper)
    start = time.perf_counter()
    fit(rule, data, epochs, batch_size, seed, stage=f"{arm}, seed {seed}", **more)
    seconds = time.perf_counter() - start
    rule.to(device())
    run = Run(arm, seed, hyper, rule, rule.history, seconds=seconds)
    run.validation = evaluate(rule, data.x_val, data.y_val)
    run.test = evaluate(rule, data.x_test, data.y_test)
    return run
