"""Initialisation that suits depth, and the networks that a practitioner would take.

`textbook` and `textbook_cnn` build the network of the opponent *textbook backprop*: one
arm with the field's own settings, not a search.
"""

import math

import torch
from torch import nn

from bpfree_common.learning import networks

#: Standard deviation of a weight times sqrt(fan-in), by the activation that follows: what
#: keeps the second moment (ReLU; He et al. 2015) or the slope at zero (tanh, none; LeCun
#: et al. 1998) from layer to layer. With PyTorch's 5/3 for tanh gradients grow.
GAINS = {nn.ReLU: math.sqrt(2), nn.Tanh: 1.0, nn.Identity: 1.0}


@torch.no_grad()
def initialise(units: nn.ModuleList) -> nn.ModuleList:
    """Draw all dense and convolutional weights anew, fit for 2 to 16 layers and more.

    Normal with standard deviation ``gain / sqrt(fan-in)``, zero bias. The gain belongs to
    the first activation after the layer in its unit: sqrt 2 for ReLU, 1 for tanh and for
    none, as in a read-out. Returns the units.
    """
    for unit in units:
        modules = [m for m in unit.modules() if not [*m.children()]]
        for n, layer in enumerate(modules):
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                after = (GAINS[type(m)] for m in modules[n:] if type(m) in GAINS)
                fan_in = layer.weight[0].numel()
                layer.weight.normal_(0.0, next(after, 1.0) / math.sqrt(fan_in))
                if layer.bias is not None:
                    layer.bias.zero_()
    return units


def textbook(sizes: list[int], activation: str = "relu") -> nn.ModuleList:
    """`networks.mlp`, initialised for its activation: He for ReLU, LeCun for tanh."""
    return initialise(networks.mlp(sizes, activation))


def textbook_cnn(
    shape: tuple[int, int, int],
    channels: list[int],
    classes: int,
    activation: str = "relu",
    channels_last: bool = False,
) -> nn.ModuleList:
    """`networks.cnn`, initialised for its activation: He for ReLU, LeCun for tanh."""
    return initialise(networks.cnn(shape, channels, classes, activation, channels_last))
