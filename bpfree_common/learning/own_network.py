"""A rule's own network, read off the rule: for opponents that start where it starts.

Nothing about a network is typed here. Its activation is the one that runs when the rule
predicts, and its weights are those that the rule has drawn, found by their shapes. So a
rule's own backpropagation and its own frozen control have its architecture, activation
and initialisation by construction, whatever the rule is.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bpfree_common.errors import ContractError
from bpfree_common.learning.rule import LearningRule

#: Kernels that make an activation, and its module.
_KERNELS = {"relu": "relu", "relu_": "relu", "threshold": "relu", "tanh": "tanh",
            "tanh_": "tanh", "elu": "elu", "elu_": "elu", "gelu": "gelu"}  # fmt: skip
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "elu": nn.ELU, "gelu": nn.GELU}

#: What makes a layer another than a plain one, though it has no weight of its own.
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)

#: Standard deviation of a weight times sqrt(fan-in) that suits depth: what keeps the
#: second moment of a normal variable through ReLU (He et al. 2015), ELU and GELU, and
#: the slope at zero of tanh (LeCun et al. 1998).
GAINS = {"relu": math.sqrt(2), "elu": 1.245, "gelu": 1.534, "tanh": 1.0}

ALIKE = 0.06  #: relative difference of two scales that counts as the same initialisation


@dataclass
class Layer:
    """One layer of the network as the rule keeps it.

    shape: of the plain layer's weight. parts: the rule's parameters that make it up, the
    last of which see the inputs; empty if the rule has no such layer. bias: None if it
    has none.
    """

    shape: tuple[int, ...]
    parts: list[nn.Parameter]
    bias: nn.Parameter | None = None

    @property
    def weight(self) -> Tensor:
        """The weight as a plain layer has it: of what sees labels, nothing is left."""
        whole = torch.cat([part.detach() for part in self.parts], 1)
        return whole[:, whole.shape[1] - self.shape[1] :]

    @property
    def scale(self) -> float:
        """Standard deviation of the weights times the root of the fan-in."""
        fan_in = sum(part[0].numel() for part in self.parts)
        values = torch.cat([part.detach().flatten() for part in self.parts])
        return float(values.std(unbiased=False)) * math.sqrt(fan_in)


@dataclass
class Network:
    """What was read off a rule: activation, hidden layers and read-out, plain or not."""

    activation: str
    layers: list[Layer]
    inputs: tuple[int, ...]

    @property
    def hidden(self) -> list[Layer]:
        """All layers but the read-out."""
        return self.layers[:-1]

    @property
    def scales(self) -> list[float]:
        """The scale of each hidden layer."""
        return [layer.scale for layer in self.hidden]

    def starts_like(self, other: "Network") -> bool:
        """Whether hidden layers have the same activation, biases and scales."""
        if self.activation != other.activation or len(self.layers) != len(other.layers):
            return False
        pairs = zip(self.hidden, other.hidden, strict=True)
        return all(
            (a.bias is None) == (b.bias is None)
            and a.shape == b.shape
            and math.isclose(a.scale, b.scale, rel_tol=ALIKE)
            for a, b in pairs
        )

    @torch.no_grad()
    def predicts_like(self, rule: LearningRule) -> bool:
        """Whether the plain network computes the very scores that the rule predicts."""
        training = rule.training
        rule.eval()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            x = torch.rand(4, *self.inputs)
            scores, plain = rule.predict(x), x
            for unit in self.plain():
                plain = unit(plain)
        rule.train(training)
        return torch.allclose(scores, plain, rtol=1e-4, atol=1e-5)

    def plain(self) -> nn.ModuleList:
        """The network as units of (layer, activation, pooling), with the rule's weights.

        A read-out that the rule lacks, as where it predicts by goodness, is drawn.
        """
        units, before = [], []
        for layer in self.layers:
            module = _module(layer)
            last = layer is self.layers[-1]
            after = [] if last else [ACTIVATIONS[self.activation]()]
            image = len(layer.shape) == 4
            if last and len(self.inputs) == 3:
                before = [nn.Flatten()]
            units.append(nn.Sequential(*before, module, *after))
            if image:
                units[-1].append(nn.MaxPool2d(2))
        return nn.ModuleList(units)


@torch.no_grad()
def _module(layer: Layer) -> nn.Module:
    """A plain layer that holds a copy of the rule's weights, or those it draws itself."""
    biased = layer.bias is not None or not layer.parts
    out, *within = layer.shape
    if len(within) == 1:
        made = nn.Linear(within[0], out, bias=biased)
    else:
        made = nn.Conv2d(within[0], out, within[1:], padding=1, bias=biased)
    if layer.parts:
        made.weight.copy_(layer.weight)
    if layer.bias is not None:
        made.bias.copy_(layer.bias)
    return made


def shapes(inputs: tuple[int, ...], widths: list[int], classes: int) -> list[tuple]:
    """Weight shapes of the plain network: dense for (n,), 3x3 maps for (c, h, w)."""
    if len(inputs) == 1:
        return [(o, i) for i, o in pairwise([*inputs, *widths, classes])]
    maps, height, width = inputs
    found = [(o, i, 3, 3) for i, o in pairwise([maps, *widths])]
    side = 2 ** len(widths)
    return [*found, (classes, widths[-1] * (height // side) * (width // side))]


def read(
    rule: LearningRule, inputs: tuple[int, ...], widths: list[int], classes: int
) -> Network | None:
    """The network of a rule just built; None if it is no chain of plain layers.

    Layers that normalise are not plain: an opponent without would be another network.
    Heads and labels, with a row or column per class, may hang on the layers, and other
    matrices too where the chain alone makes the prediction. inputs: shape of one sample.
    Raises ContractError unless exactly one kind of activation runs when the rule
    predicts.
    """
    used: set[int] = set()
    layers = []
    wanted = shapes(inputs, widths, classes)
    for index, shape in enumerate(wanted):
        unit = rule.units[min(index, len(rule.units) - 1)]
        layers.append(_find(unit, shape, used, classes if index == 0 else 0))
    if not all(layer.parts for layer in layers[:-1]):
        return None
    network = Network(activation(rule, inputs), layers, inputs)
    units = rule.units[: len(layers)]
    if any(isinstance(part, _NORMS) for part in units.modules()):
        return None
    spare = [p for unit in units for p in unit.parameters() if id(p) not in used]
    more = any(p.dim() > 1 and classes not in p.shape[:2] for p in spare)
    return None if more and not network.predicts_like(rule) else network


def _find(unit: nn.Module, shape: tuple, used: set[int], labels: int) -> Layer:
    """The parameters of a unit that make up a layer of this shape.

    labels: columns that a label may have in the layer, beside or in place of inputs.
    """
    free = [p for p in unit.parameters() if id(p) not in used]
    rows = [p for p in free if p.dim() == len(shape) and p.shape[0] == shape[0]]
    parts = [p for p in rows if tuple(p.shape) == shape][:1]
    label = [p for p in rows if labels and p.shape[1] == labels != shape[1]][:1]
    if parts:
        parts = [*label, *parts]
    elif labels and sum(p.shape[1] for p in rows) >= shape[1]:
        parts = sorted(rows, key=lambda p: p.shape[1])  # the label's columns are fewest
    bias = next((p for p in free if parts and tuple(p.shape) == shape[:1]), None)
    used.update(id(p) for p in [*parts, bias] if p is not None)
    return Layer(shape, parts, bias)


class _Seen(TorchDispatchMode):
    """Notes which activations are computed."""

    def __init__(self):
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in _KERNELS:
            self.found.add(_KERNELS[name])
        return function(*args, **(kwargs or {}))


def activation(rule: LearningRule, inputs: tuple[int, ...]) -> str:
    """The one activation that runs when the rule predicts. Raises ContractError."""
    training, seen = rule.training, _Seen()
    rule.eval()
    with torch.random.fork_rng(), torch.no_grad(), seen:
        rule.predict(torch.ones(2, *inputs))
    rule.train(training)
    if len(seen.found) != 1:
        kinds = ", ".join(sorted(seen.found)) or "none"
        raise ContractError(
            f"{type(rule).__name__} predicts with these activations: {kinds}; "
            "opponents on its own network need exactly one"
        )
    return seen.found.pop()


@torch.no_grad()
def suit_depth(network: Network) -> None:
    """Scale the rule's hidden weights to the gain of their activation, biases to zero.

    What the rule has drawn keeps its shape (uniform, normal, orthogonal): only its scale
    changes, so that activities neither vanish nor explode with depth.
    """
    for layer in network.hidden:
        factor = GAINS[network.activation] / layer.scale
        for part in layer.parts:
            part.mul_(factor)
        if layer.bias is not None:
            layer.bias.zero_()
