"""The one tuner: every accuracy shown anywhere comes from here.

Settings are compared by the metric on validation data, averaged over tuning seeds that
no report uses, after the whole budget (at a paper's scale a part of it) with the rate
cooled. The best setting found is
then trained with the reporting seeds, and only those runs see test data. While the best
rate is the lowest or the highest tried, the grid is widened towards it; an arm that is
still at an edge after `WIDEN` rounds says so wherever its number stands.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from lightning.pytorch.loggers import Logger

from bpfree_common.data import Data
from bpfree_common.learning import training
from bpfree_common.learning.rule import LearningRule

Build = Callable[..., LearningRule]

FACTOR = 3.0  #: between neighbouring rates, where the grid is widened
WIDEN = 4  #: rounds of widening, after which an arm is left at its edge
FIRST_TUNING_SEED = 1_000  #: reporting seeds count from 0


@dataclass(frozen=True)
class Budget:
    """What every arm of a comparison may spend.

    cool: the rate is constant for the first half of all steps and then falls linearly
    to zero. seeds: reporting seeds. tuning_seeds: those that choose the setting. logger:
    makes one of Lightning's for an arm and a reporting seed: ``logger(arm, seed)``.
    tuning_epochs: after how many epochs, cooled like the whole, settings are compared;
    all of them where it is None. precision: of products of float32 matrices.
    """

    epochs: int
    batch_size: int
    seeds: tuple[int, ...]
    tuning_seeds: tuple[int, ...]
    cool: bool = True
    track_alignment: bool = False
    logger: Callable[[str, int], Logger] | None = None
    tuning_epochs: int | None = None
    precision: str = "highest"


@dataclass
class Tried:
    """One setting and its validation metric, one value per tuning seed."""

    hyper: dict
    values: list[float]
    seconds: float = 0.0

    @property
    def validation(self) -> float:
        """The mean over tuning seeds; a run without a number counts as the worst."""
        return float(np.mean([v if math.isfinite(v) else -math.inf for v in self.values]))

    def as_dict(self) -> dict:
        """For the record: a diverged run's metric is null."""
        values = [v if math.isfinite(v) else None for v in self.values]
        mean = self.validation if math.isfinite(self.validation) else None
        return {"hyper": self.hyper, "validation": mean, "values": values}


@dataclass
class Tuned:
    """An arm with the setting that was chosen, and its runs with reporting seeds."""

    arm: str
    tried: list[Tried]
    chosen: dict
    at_edge: bool
    runs: list[training.Run] = field(default_factory=list)
    fixed: bool = False
    epochs: int | None = None

    def as_dict(self) -> dict:
        """For the record: every setting that was tried, and their number.

        epochs: after which they were compared, where those were not all.
        """
        part = {} if self.epochs is None else {"epochs": self.epochs}
        return part | {
            "settings": [each.as_dict() for each in self.tried],
            "tried": len(self.tried),
            "chosen": self.chosen,
            "at_edge": self.at_edge,
            "fixed": self.fixed,
        }


class Fixed(list):
    """Settings that are not searched around: the paper's own, or one shared on purpose.

    Made by `fixed`. The grid is not widened, no edge is flagged, and tables say so.
    """


def fixed(*settings: float | dict) -> Fixed:
    """A grid of these settings and no others, because the question fixes them."""
    return Fixed(settings)


def settings_of(grid: Iterable[float | dict]) -> list[dict]:
    """Rates, or whole settings with `lr` among them, as settings without repetition.

    Raises ValueError for an empty grid or a setting without `lr`.
    """
    found: list[dict] = []
    for each in grid:
        setting = dict(each) if isinstance(each, dict) else {"lr": float(each)}
        if "lr" not in setting:
            raise ValueError(f"the setting {setting} has no 'lr'")
        if setting not in found:
            found.append(setting)
    if not found:
        raise ValueError("the grid is empty: give at least one rate")
    return found


def search(
    evaluate: Callable[[dict], Tried], grid: list[dict]
) -> tuple[list[Tried], bool]:
    """All settings tried, and whether the best is still at an edge of the rates.

    evaluate: trains a setting with every tuning seed. Settings that differ from the best
    in `lr` alone are its grid of rates: one rate, or the lowest or highest of them, is
    an edge, and the next rate outward is tried.
    """
    tried = [evaluate(setting) for setting in grid]
    for _ in range(WIDEN):
        further = _outward(tried)
        if further is None:
            break
        tried += [evaluate(setting) for setting in further]
    return tried, _outward(tried) is not None


def best(tried: list[Tried]) -> Tried:
    """The setting with the highest validation metric; of equals the first."""
    return max(tried, key=lambda each: each.validation)


def _outward(tried: list[Tried]) -> list[dict] | None:
    """The settings beyond the edge at which the best one is; None if it is inside."""
    top = best(tried).hyper
    rates = sorted(t.hyper["lr"] for t in tried if t.hyper | {"lr": top["lr"]} == top)
    beyond = []
    if top["lr"] == rates[0]:
        beyond.append(top["lr"] / FACTOR)
    if top["lr"] == rates[-1]:
        beyond.append(top["lr"] * FACTOR)
    return [top | {"lr": float(f"{lr:.3g}")} for lr in beyond] or None


def tune(
    arm: str,
    build: Build,
    task: Data,
    budget: Budget,
    grid: Iterable[float | dict],
    checkpoint: Callable[[dict, int], object] | None = None,
) -> Tuned:
    """Choose a setting of `build` on validation data, then train it for the report.

    build: ``build(**setting)`` makes a rule from PyTorch's random state.
    grid: rates, or settings with `lr` among them; give the paper's own among them. What
        `fixed` makes is not widened.
    checkpoint: folder of a resumable run, by setting and seed.
    """
    task = task.to(training.device())

    def run(hyper: dict, seed: int, report: bool) -> training.Run:
        epochs = budget.epochs if report else budget.tuning_epochs or budget.epochs
        return training.train(
            arm, build, hyper, task, seed, epochs, budget.batch_size,
            cool=budget.cool, test=report,
            track_alignment=report and budget.track_alignment,
            logger=budget.logger(arm, seed) if report and budget.logger else None,
            precision=budget.precision,
            checkpoint=checkpoint(hyper, seed) if checkpoint else None,
        )  # fmt: skip

    def evaluate(hyper: dict) -> Tried:
        runs = [run(hyper, seed, report=False) for seed in budget.tuning_seeds]
        return Tried(hyper, [r.validation for r in runs], sum(r.seconds for r in runs))

    settings, given = settings_of(grid), isinstance(grid, Fixed)
    if given:
        tried, at_edge = [evaluate(setting) for setting in settings], False
    else:
        tried, at_edge = search(evaluate, settings)
    chosen = best(tried).hyper
    runs = [run(chosen, seed, report=True) for seed in budget.seeds]
    return Tuned(arm, tried, chosen, at_edge, runs, given, budget.tuning_epochs)
