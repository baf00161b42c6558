"""One job of the contest: an entrant on one network, trained under two protocols.

An entrant is a paper's rule, or a shared ground: a network on which backpropagation and
the frozen control are trained once for all rules that start there. A rule's own network
is read off the rule (`learning.own_network`); if it starts like a shared ground, the
rule's own opponents are that ground's, else they are trained here, on copies of it.
"""

import math
from dataclasses import dataclass, field, replace

import numpy as np

from bpfree_common.data import Data
from bpfree_common.learning import opponents, training
from bpfree_common.learning.convergence import Converging
from bpfree_common.learning.optim import adam
from bpfree_common.studies.comparison import Comparison
from bpfree_common.studies.contest_networks import (
    BACKPROP,
    DEEP,
    FROZEN,
    RATES,
    RECIPES,
    Networks,
)
from bpfree_common.studies.study import Study

CONVERGED = "test accuracy, own convergence"
EPOCHS = "epochs, own convergence"
SCALE = "initial scale of hidden weights over the shared network's"
PREDICTS = "predicts as its own plain network does"


def layers(count: int) -> str:
    """Name of the metric of a network with so many layers, the read-out included."""
    return f"test accuracy, {count} layers"


@dataclass
class Contest(Networks):
    """An entrant whose arms are trained in a study; see `Networks` for the rest."""

    study: Study
    comparison: Comparison = field(init=False)

    def describe(self) -> list[dict]:
        """What was read off the rule, a row per hidden layer; it goes to the record."""
        network = self.network
        if network is None:
            return []
        rule = self.at_seed_0(self.rule)
        same = float(network.predicts_like(rule))
        self.study.metric(self.entrant, PREDICTS, same, "1 or 0")
        if self.shared:
            units = self.at_seed_0(
                lambda r: opponents.Backprop(self.ground(self.shared), r)
            )
            pairs = zip(network.scales, self.read(units).scales, strict=True)
            self.study.metric(self.shared, SCALE, [a / b for a, b in pairs], "ratio")
        return [
            {
                "hidden layer": index,
                "activation": network.activation,
                "weight": " x ".join(map(str, layer.shape)),
                "bias": "none" if layer.bias is None else "yes",
                "std of weights * sqrt(fan-in)": f"{layer.scale:.3f}",
            }
            for index, layer in enumerate(network.hidden, 1)
        ]

    # --- training --------------------------------------------------------------------

    def equal_passes(self, epochs: int, batch_size: int, optimizers: str) -> Comparison:
        """Every arm tuned and trained with the same number of passes, rates cooled."""
        kinds = list(RECIPES) if optimizers == "both" else [optimizers]
        grid = [{"optimizer": kind, "lr": rate} for kind in kinds for rate in RATES[kind]]
        self.comparison = Comparison(self.study.budget(epochs, batch_size))
        for arm, build in self.arms().items():
            tuned = self.study.tune(arm, build, self.task, epochs, batch_size, grid)
            self.comparison.arms[arm] = tuned
            found = self.comparison.test(arm)
            self.study.metric(arm, "test accuracy", found, "fraction")
        return self.comparison

    def own_convergence(self, seeds: int, patience: int, tail: int, cap: int) -> None:
        """Every arm but the frozen one, each until it has converged by itself.

        With the setting that equal passes chose; see `Converging` for the criterion.
        """
        budget = self.comparison.budget
        for arm, build in self.arms().items():
            if arm == FROZEN:
                continue
            runs = [
                training.train(
                    f"{arm}, own convergence", build, self.comparison.arms[arm].chosen,
                    self.task, seed, cap, budget.batch_size, cool=False,
                    callbacks=[Converging(patience, tail)],
                )
                for seed in budget.seeds[:seeds]
            ]  # fmt: skip
            self.study.metric(arm, CONVERGED, [run.test for run in runs], "fraction")
            epochs = [float(len(run.history)) for run in runs]
            self.study.metric(arm, EPOCHS, epochs, "epochs")

    def depth(self, counts: list[int], samples: int, epochs: int, seeds: int) -> dict:
        """Accuracies by arm and number of layers, from a start that suits depth.

        All hidden layers are as wide as the first. Each depth is tuned anew, around the
        setting chosen above. Returns arm -> one row of accuracies (seeds,) per depth.
        """
        if self.is_ground and self.entrant not in DEEP:
            return {}
        found: dict[str, list] = {}
        task, batch = self.task.take(samples), self.comparison.budget.batch_size
        for count in counts:
            for arm, build in self.deep_arms([self.widths[0]] * (count - 1)).items():
                chosen = self.comparison.arms[arm].chosen
                lower = chosen | {"lr": float(f"{chosen['lr'] / 3:.3g}")}
                tuned = self.study.tune(
                    f"{arm}, {count} layers", build, task, epochs, batch,
                    [lower, chosen], seeds=tuple(self.study.seeds[:seeds]),
                    tuning_seeds=tuple(self.study.tuning_seeds[:1]),
                )  # fmt: skip
                tests = [run.test for run in tuned.runs]
                self.study.metric(arm, layers(count), tests, "fraction")
                found.setdefault(arm, []).append(np.array(tests))
        return found

    # --- cost ------------------------------------------------------------------------

    def cost(self):
        """Counted costs of a step of every arm beside backprop's on the same network."""
        size = self.comparison.budget.batch_size
        batch = (self.task.x_train[:size], self.task.y_train[:size])
        recipe = adam(1e-3)  # one optimiser for all where steps are timed
        rules = {arm: self.comparison.rule(arm) for arm in self.comparison.arms}
        for rule in rules.values():
            rule.recipe = recipe
        if BACKPROP not in rules:
            rules[BACKPROP] = self.at_seed_0(self.own)
        if self.entrant == "textbook":
            for name, kind in (("checkpointing", opponents.Checkpointing),
                               ("accumulation", opponents.Accumulation)):  # fmt: skip
                units = self.ground(self.entrant)
                rules[f"{BACKPROP}, {name}"] = kind(units, recipe)
        return self.study.cost(rules, batch, BACKPROP)

    def found(self) -> None:
        """Sentences for the first screen of this job."""
        first = next(iter(self.comparison.arms))
        self.study.finding(
            f"{first} reaches {self.comparison.percent(first)} % of test data correct "
            f"with {self.comparison.budget.epochs} passes."
        )
        if not self.is_ground:
            where = f"the shared network {self.shared!r}" if self.shared else "this job"
            self.study.finding(
                f"Its own backprop and frozen control are those of {where}."
            )
        elif FROZEN in self.comparison.arms:
            gap = self.comparison.points(BACKPROP, FROZEN)
            self.study.finding(f"Backprop is {gap} points above the frozen control.")


def load(study: Study, dataset: str, samples: int, validation: int, dense: bool) -> Data:
    """A data set with few training and validation images, as rows for a dense network."""
    task = study.data(dataset).take(samples)
    task = training_view(task, validation)
    return task.flat() if dense else task


def training_view(task: Data, validation: int) -> Data:
    """The task with its first `validation` validation samples only."""
    x, y = task.split("val")
    return replace(task, x_val=x[:validation], y_val=y[:validation])


def depths(deepest: int) -> list[int]:
    """2, 4, 8, ... layers up to `deepest`; none for 0."""
    return [2**k for k in range(1, int(math.log2(deepest)) + 1)] if deepest else []
