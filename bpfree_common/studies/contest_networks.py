"""The networks of the contest: shared grounds, rules, and opponents on a rule's own."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import nn

from bpfree_common.data import Data
from bpfree_common.errors import ContractError
from bpfree_common.learning import networks, opponents
from bpfree_common.learning.end_to_end import EndToEnd
from bpfree_common.learning.initialisation import textbook, textbook_cnn
from bpfree_common.learning.optim import adam, sgd
from bpfree_common.learning.own_network import Network, read, suit_depth
from bpfree_common.learning.rule import LearningRule
from bpfree_common.papers.loader import load_rule

BACKPROP, FROZEN, SUPERVISED = "backprop", "frozen", "deep supervision"

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


@dataclass
class Networks:
    """An entrant of the contest and the networks it plays on.

    entrant: the slug of a paper whose rule cells define `build_dense` or `build_conv`,
    or the name of a shared ground. task: images as rows for a dense network. widths: of
    the hidden layers, or maps of the convolutions.

    Raises ContractError if the entrant cannot be built on such a network.
    """

    entrant: str
    task: Data
    widths: list[int]

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
        return self.read(self.at_seed_0(self.rule))

    @cached_property
    def shared(self) -> str | None:
        """The shared ground that the entrant's network starts like, if there is one."""
        for name in self.grounds if self.network else ():
            units = partial(self.ground, name)
            ground = self.at_seed_0(lambda r, u=units: opponents.Backprop(u(), r))
            if self.network.starts_like(self.read(ground)):
                return name
        return None

    def at_seed_0(self, build: Callable) -> LearningRule:
        """The rule that ``build(recipe)`` makes from seed 0."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return build(adam(1e-3))

    def arms(self) -> dict[str, Callable]:
        """All arms of this job, ``build(optimizer, lr)`` each, the entrant's first."""
        builds = {self.entrant: self.rule}
        if self.is_ground:
            builds = self._ground_arms()
        elif self.shared is None:
            builds |= {BACKPROP: self.own, FROZEN: partial(self.own, frozen=True)}
        return {name: _tuned(build) for name, build in builds.items()}

    def _ground_arms(self) -> dict[str, Callable]:
        """``build(recipe)`` of every arm on a shared ground."""
        made = {BACKPROP: opponents.Backprop, FROZEN: opponents.Frozen}
        if self.entrant in SUPERVISING:
            example = self.task.x_train[:2]
            made[SUPERVISED] = partial(opponents.DeepSupervision, example=example)

        def build(recipe, kind) -> LearningRule:
            return kind(self.ground(self.entrant), recipe)

        return {name: partial(build, kind=kind) for name, kind in made.items()}

    def own(self, recipe, frozen: bool = False) -> LearningRule:
        """Backpropagation on the very network that the rule builds at this seed."""
        rule = self.rule(recipe)
        network = self.read(rule)
        if network is None:
            return EndToEnd(rule, frozen)
        kind = opponents.Frozen if frozen else opponents.Backprop
        return kind(network.plain(), recipe)

    def deep_arms(self, widths: list[int]) -> dict[str, Callable]:
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


def _tuned(build: Callable) -> Callable:
    """``build(optimizer, lr)`` from ``build(recipe)``."""
    return lambda optimizer, lr: build(RECIPES[optimizer](lr))
