"""One job of the contest: an entrant on one network, trained under two protocols.

An entrant is a paper's rule, or a shared ground: a network on which backpropagation and
the frozen control are trained once for all rules that start there. A rule's own network
is read off the rule (`learning.own_network`); if it starts like a shared ground, the
rule's own opponents are that ground's, else they are trained here, on copies of it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
import torch
from torch import nn

from bpfree_common.data import Data
from bpfree_common.errors import ContractError
from bpfree_common.learning import networks, opponents, training
from bpfree_common.learning.convergence import Converging
from bpfree_common.learning.initialisation import textbook, textbook_cnn
from bpfree_common.learning.optim import adam, sgd
from bpfree_common.learning.own_network import EndToEnd, Network, read, suit_depth
from bpfree_common.learning.rule import LearningRule
from bpfree_common.papers.loader import load_rule
from bpfree_common.studies.comparison import Comparison
from bpfree_common.studies.study import Study

BACKPROP, FROZEN, SUPERVISED = "backprop", "frozen", "deep supervision"
CONVERGED = "test accuracy, own convergence"
EPOCHS = "epochs, own convergence"
SCALE = "initial scale of hidden weights over the shared network's"
PREDICTS = "predicts as its own plain network does"

#: What every arm may be trained with; `lr` is the rate that PyTorch is given.
RECIPES = {"adam": adam, "sgd": partial(sgd, momentum=0.9)}
RATES = {"adam": [0.001, 0.003, 0.009], "sgd": [0.02, 0.1]}


def lecun(sizes: list[int]) -> nn.ModuleList:
    """ReLU layers, weights normal with variance 1 / fan-in, biases zero."""
    units = networks.mlp(sizes)
    for layer in (unit[0] for unit in units):
        nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
        nn.init.zeros_(layer.bias)
    return units


#: Networks that several rules share; `textbook` is a practitioner's choice too.
DENSE = {
    "textbook": textbook,
    "relu": networks.mlp,
    "lecun": lecun,
    "tanh": partial(networks.mlp, activation="tanh", init="xavier"),
}
CONV = {
    "textbook": partial(textbook_cnn, channels_last=True),
    "relu": partial(networks.cnn, channels_last=True),
    "tanh": partial(networks.cnn, activation="tanh", channels_last=True),
}
SUPERVISING = ("textbook", "relu")  #: grounds on which deep supervision is trained too
DEEP = ("textbook", "tanh")  #: grounds with another start suited to depth each


def layers(count: int) -> str:
    """Name of the metric of a network with so many layers, the read-out included."""
    return f"test accuracy, {count} layers"


@dataclass
class Contest:
    """An entrant, the network it plays on, and what has been trained.

    entrant: the slug of a paper whose rule cells define `build_dense` or `build_conv`,
    or the name of a shared ground. task: images as rows for a dense network. widths: of
    the hidden layers, or maps of the convolutions.

    Raises ContractError if the entrant cannot be built on such a network.
    """

    study: Study
    entrant: str
    task: Data
    widths: list[int]
    comparison: Comparison = field(init=False)

    @cached_property
    def inputs(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.task.x_train.shape[1:])

    @property
    def dense(self) -> bool:
        """Whether the network is dense."""
        return len(self.inputs) == 1

    @property
    def grounds(self) -> dict[str, Callable]:
        """Shared networks by name."""
        return DENSE if self.dense else CONV

    @property
    def is_ground(self) -> bool:
        """Whether the entrant is a shared ground and no rule."""
        return self.entrant in self.grounds

    # --- building --------------------------------------------------------------------

    def _sizes(self, widths: list[int]) -> tuple:
        """What builders of this kind of network take."""
        if self.dense:
            return ([self.inputs[0], *widths, self.task.classes],)
        return (self.inputs, widths, self.task.classes)

    def ground(self, name: str, widths: list[int] | None = None) -> nn.ModuleList:
        """Units of a shared ground, drawn from PyTorch's random state."""
        return self.grounds[name](*self._sizes(widths or self.widths))

    def rule(self, recipe, widths: list[int] | None = None) -> LearningRule:
        """The entrant's rule as its paper's notebook builds it."""
        kind = "build_dense" if self.dense else "build_conv"
        build = getattr(load_rule(self.entrant), kind, None)
        if build is None:
            raise ContractError(f"{self.entrant} has no {kind} in its rule cells")
        return build(*self._sizes(widths or self.widths), recipe)

    def read(self, rule: LearningRule, widths: list[int] | None = None) -> Network | None:
        """The rule's own network; None if it is no chain of plain layers."""
        return read(rule, self.inputs, widths or self.widths, self.task.classes)

    @cached_property
    def network(self) -> Network | None:
        """The entrant's own network at seed 0, as `read` finds it."""
        return self.read(self._at_seed_0(self.rule))

    @cached_property
    def shared(self) -> str | None:
        """The shared ground that the entrant's network starts like, if there is one."""
        for name in self.grounds if self.network else ():
            units = partial(self.ground, name)
            ground = self._at_seed_0(lambda r, u=units: opponents.Backprop(u(), r))
            if self.network.starts_like(self.read(ground)):
                return name
        return None

    def _at_seed_0(self, build: Callable) -> LearningRule:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return build(adam(1e-3))

    def arms(self) -> dict[str, Callable]:
        """All arms of this job, ``build(optimizer, lr)`` each, the entrant's first."""
        if not self.is_ground:
            own = {} if self.shared else {BACKPROP: self._own, FROZEN: self._own_frozen}
            return {self.entrant: _tuned(self.rule)} | {
                n: _tuned(b) for n, b in own.items()
            }
        made = {BACKPROP: opponents.Backprop, FROZEN: opponents.Frozen}
        if self.entrant in SUPERVISING:
            example = self.task.x_train[:2]
            made[SUPERVISED] = partial(opponents.DeepSupervision, example=example)
        return {
            name: _tuned(
                lambda recipe, kind=kind: kind(self.ground(self.entrant), recipe)
            )
            for name, kind in made.items()
        }

    def _own(self, recipe, frozen: bool = False) -> LearningRule:
        """Backpropagation on the very network that the rule builds at this seed."""
        rule = self.rule(recipe)
        network = self.read(rule)
        if network is None:
            return EndToEnd(rule, frozen)
        kind = opponents.Frozen if frozen else opponents.Backprop
        return kind(network.plain(), recipe)

    def _own_frozen(self, recipe) -> LearningRule:
        return self._own(recipe, frozen=True)

    def describe(self) -> list[dict]:
        """What was read off the rule, a row per hidden layer; it goes to the record."""
        network = self.network
        if network is None:
            return []
        rule = self._at_seed_0(self.rule)
        same = float(network.predicts_like(rule))
        self.study.metric(self.entrant, PREDICTS, same, "1 or 0")
        if self.shared:
            units = self._at_seed_0(
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
            for arm, build in self._deep_arms([self.widths[0]] * (count - 1)).items():
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

    def _deep_arms(self, widths: list[int]) -> dict[str, Callable]:
        """The arms whose depth is studied, with so many hidden layers."""

        def suited(recipe) -> LearningRule:
            rule = self.rule(recipe, widths)
            network = self.read(rule, widths)
            if network is not None:
                suit_depth(network)
            return rule

        def on_ground(recipe, kind) -> LearningRule:
            rule = opponents.Backprop(self.ground(self.entrant, widths), recipe)
            suit_depth(self.read(rule, widths))
            return kind(rule.units, recipe)

        if not self.is_ground:
            return {self.entrant: _tuned(suited)}
        kinds = {BACKPROP: opponents.Backprop, FROZEN: opponents.Frozen}
        return {n: _tuned(partial(on_ground, kind=kind)) for n, kind in kinds.items()}

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
            rules[BACKPROP] = self._at_seed_0(self._own)
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


def _tuned(build: Callable) -> Callable:
    """``build(optimizer, lr)`` from ``build(recipe)``."""
    return lambda optimizer, lr: build(RECIPES[optimizer](lr))


def load(study: Study, dataset: str, samples: int, validation: int, dense: bool) -> Data:
    """A data set with few training and validation images, as rows for a dense network."""
    task = study.data(dataset).take(samples)
    task = training_view(task, validation)
    return task.flat() if dense else task


def training_view(task: Data, validation: int) -> Data:
    """The task with its first `validation` validation samples only."""
    from dataclasses import replace

    x, y = task.split("val")
    return replace(task, x_val=x[:validation], y_val=y[:validation])


def depths(deepest: int) -> list[int]:
    """2, 4, 8, ... layers up to `deepest`; none for 0."""
    return [2**k for k in range(1, int(math.log2(deepest)) + 1)] if deepest else []
