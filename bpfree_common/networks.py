"""Networks as lists of units: MLP, a small CNN, a graph convolutional network.

A unit is the group of parameters that learns together, called as one module. All
builders draw from PyTorch's global random state, so equal seeds give equal networks.
"""

import warnings

import torch
from torch import Tensor, nn

from bpfree_common.data import Graph

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "identity": nn.Identity}


def mlp(
    sizes: list[int], activation: str = "relu", init: str = "default"
) -> nn.ModuleList:
    """Dense layers `sizes[0]-sizes[1]-...`; the last has no activation.

    init: `default` (PyTorch's), `xavier` (uniform) or `he` (normal), with zero bias.
    """
    last = len(sizes) - 2
    units = []
    for n, (i, o) in enumerate(zip(sizes, sizes[1:], strict=False)):
        act = ACTIVATIONS[activation]() if n < last else nn.Identity()
        units.append(nn.Sequential(dense(i, o, init), act))
    return nn.ModuleList(units)


def dense(inputs: int, outputs: int, init: str = "default") -> nn.Linear:
    """One linear layer with the named initialisation."""
    layer = nn.Linear(inputs, outputs)
    if init == "xavier":
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    elif init == "he":
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    elif init != "default":
        raise ValueError(f"init must be default, xavier or he, not {init!r}")
    return layer


def cnn(
    shape: tuple[int, int, int],
    channels: list[int],
    classes: int,
    activation: str = "relu",
) -> nn.ModuleList:
    """Units of convolution 3x3, activation, max-pooling 2; then a linear read-out.

    shape: (channels, height, width) of one image, each side divisible by
    2 ** len(channels).
    """
    depth, height, width = shape
    units = []
    for maps in channels:
        conv = nn.Conv2d(depth, maps, 3, padding=1)
        units.append(nn.Sequential(conv, ACTIVATIONS[activation](), nn.MaxPool2d(2)))
        depth, height, width = maps, height // 2, width // 2
    units.append(nn.Sequential(nn.Flatten(), nn.Linear(depth * height * width, classes)))
    return nn.ModuleList(units)


class GraphConv(nn.Module):
    """A graph convolution (Kipf and Welling 2017, eq. 2): D^-1/2 (A+I) D^-1/2 X W + b.

    The normalised adjacency is a buffer that does not enter checkpoints.
    """

    def __init__(self, inputs: int, outputs: int, adjacency: Tensor):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=False)
        nn.init.xavier_uniform_(self.linear.weight)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("adjacency", adjacency, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(nodes, inputs) -> (nodes, outputs)."""
        return self.adjacency @ self.linear(x) + self.bias


def normalised_adjacency(edges: Tensor, nodes: int) -> Tensor:
    """D^-1/2 (A+I) D^-1/2 as a sparse CSR matrix. edges: (2, E), both directions."""
    loops = torch.arange(nodes, device=edges.device).expand(2, -1)
    row, column = torch.cat([edges, loops], 1)
    degree = torch.bincount(row, minlength=nodes).to(torch.float32)
    values = (degree[row] * degree[column]).rsqrt()
    shape = (nodes, nodes)
    indices = torch.stack([row, column])
    with warnings.catch_warnings():  # PyTorch announces that sparse tensors are in beta
        warnings.simplefilter("ignore")
        coo = torch.sparse_coo_tensor(indices, values, shape, check_invariants=False)
        return coo.coalesce().to_sparse_csr()


def gcn(graph: Graph, sizes: list[int], activation: str = "relu") -> nn.ModuleList:
    """Graph convolutions `sizes[0]-sizes[1]-...` on one graph; the last is linear."""
    adjacency = normalised_adjacency(graph.edges, len(graph.x))
    last = len(sizes) - 2
    units = []
    for n, (i, o) in enumerate(zip(sizes, sizes[1:], strict=False)):
        act = ACTIVATIONS[activation]() if n < last else nn.Identity()
        units.append(nn.Sequential(GraphConv(i, o, adjacency), act))
    return nn.ModuleList(units)
