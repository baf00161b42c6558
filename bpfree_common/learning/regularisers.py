"""Weight decay, dropout and normalisation, the same for every arm of a comparison."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from bpfree_common.errors import ContractError
from bpfree_common.learning.optim import Recipe
from bpfree_common.learning.rule import LearningRule


@dataclass(frozen=True)
class Regularisers:
    """The same weight decay, dropout and normalisation for every arm that can have it.

    weight_decay: of every parameter, in the way of the arm's optimiser (decoupled in
        AdamW). dropout: the share of features dropped at the end of each hidden unit.
    norm: `none`, `batch` or `layer`, put between a hidden unit's layer and its
        activation; on images `layer` is over channels and positions of one sample.

    An arm can have dropout and normalisation if it calls its units as modules. Raises
    ContractError where one has no place.
    """

    weight_decay: float = 0.0
    dropout: float = 0.0
    norm: str = "none"

    def __post_init__(self):
        if self.norm not in ("none", "batch", "layer"):
            raise ContractError(
                f"norm is {self.norm!r}: choose one of none, batch and layer"
            )

    def on(self, build: Callable[..., LearningRule]) -> Callable[..., LearningRule]:
        """`build` with the regularisers on every rule that it makes."""

        def regularised(**hyper) -> LearningRule:
            rule = build(**hyper)
            for unit in rule.units[:-1]:
                self._change(unit)
            rule.recipe = self.recipe(rule.recipe)
            return rule

        return regularised

    def recipe(self, optimizer: Recipe) -> Recipe:
        """The recipe with this weight decay in every group of parameters."""
        if not self.weight_decay:
            return optimizer

        def build(parameters) -> torch.optim.Optimizer:
            made = optimizer(parameters)
            for group in made.param_groups:
                if "weight_decay" not in group:
                    raise ContractError(f"{type(made).__name__} has no weight decay")
                group["weight_decay"] = self.weight_decay
            return made

        return build

    def _change(self, unit: nn.Module) -> None:
        body = getattr(unit, "body", unit)  # that of a unit with a head
        if self.norm == "none" and not self.dropout:
            return
        if not isinstance(body, nn.Sequential):
            raise ContractError(
                f"a unit is a {type(body).__name__}: normalisation and dropout need an"
                " nn.Sequential that starts with its layer"
            )
        if self.norm != "none":
            body.insert(1, self._norm(body[0]))
        if self.dropout:
            body.append(nn.Dropout(self.dropout))

    def _norm(self, layer: nn.Module) -> nn.Module:
        """The normalisation of a layer's outputs, trained if the layer is."""
        image = isinstance(layer, nn.Conv2d)
        if not image and not isinstance(layer, nn.Linear):
            raise ContractError(
                f"a unit starts with {type(layer).__name__}: normalisation needs a"
                " Linear or Conv2d there"
            )
        size = layer.out_channels if image else layer.out_features
        if self.norm == "batch":
            norm = (nn.BatchNorm2d if image else nn.BatchNorm1d)(size)
        else:
            norm = nn.GroupNorm(1, size) if image else nn.LayerNorm(size)
        norm.to(layer.weight.device, layer.weight.dtype)
        return norm.requires_grad_(layer.weight.requires_grad)
