"""Networks as lists of units: MLP, a small CNN, a graph convolutional network; layers.

A unit is the group of parameters that learns together, called as one module. All
builders draw from PyTorch's global random state, so equal seeds give equal networks.
"""

import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bpfree_common.data.tasks import Graph

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
    channels_last: bool = False,
) -> nn.ModuleList:
    """Units of convolution 3x3, activation, max-pooling 2; then a linear read-out.

    shape: (channels, height, width) of one image, each side divisible by
    2 ** len(channels). channels_last: keep the weights, and thereby all images within the
    network, with the channels innermost in memory, which is faster; equal up to rounding.
    """
    depth, height, width = shape
    units = []
    for maps in channels:
        conv = nn.Conv2d(depth, maps, 3, padding=1)
        units.append(nn.Sequential(conv, ACTIVATIONS[activation](), nn.MaxPool2d(2)))
        depth, height, width = maps, height // 2, width // 2
    units.append(nn.Sequential(nn.Flatten(), nn.Linear(depth * height * width, classes)))
    made = nn.ModuleList(units)
    return made.to(memory_format=torch.channels_last) if channels_last else made


class TaughtLinear(nn.Linear):
    """z = W h + b, for rules that write the credit of a layer themselves."""

    def forward(self, h: Tensor, inputs: Tensor | None = None) -> Tensor:
        """inputs: indices of those that h holds, the others being zero; None: all."""
        W = self.weight if inputs is None else self.weight.index_select(1, inputs)
        return F.linear(h, W, self.bias)

    def write(
        self,
        delta: Tensor,
        h: Tensor,
        extra: tuple[Tensor, ...] = (),
        outputs: Tensor | None = None,
        inputs: Tensor | None = None,
    ) -> None:
        """Set `.grad` to the sums of delta h^T and of delta over all rows.

        delta: (rows, outputs), dL/dz or what a rule puts in its place; h: (rows, inputs);
        extra: delta and h of further rows; outputs, inputs: indices of the columns that
        delta and h hold, the others being zero; None: all.
        """
        if extra:
            delta, h = torch.cat([delta, extra[0]]), torch.cat([h, extra[1]])
        weight = delta.T @ h
        weight = spread(weight, 1, inputs, self.in_features)
        self.weight.grad = spread(weight, 0, outputs, self.out_features)
        self.bias.grad = spread(delta.sum(0), 0, outputs, self.out_features)


def spread(block: Tensor, dim: int, indices: Tensor | None, size: int) -> Tensor:
    """`block` at the `indices` of one dimension of `size`, and zeros; None: as it is."""
    if indices is None:
        return block
    whole = block.new_zeros([size if d == dim else n for d, n in enumerate(block.shape)])
    return whole.index_copy_(dim, indices, block)


class LabelledLinear(nn.Module):
    """z = s (W_image x + W_label c) + b for k labels c of each row x.

    The product with x is made once and shared by the k labels. The weights start as
    those of one PyTorch layer with `inputs + classes` inputs.
    """

    def __init__(self, inputs: int, classes: int, outputs: int):
        super().__init__()
        self.image = nn.Linear(inputs, outputs, bias=False)
        self.label = nn.Linear(classes, outputs, bias=False)
        self.bias = nn.Parameter(torch.empty(outputs))
        bound = (inputs + classes) ** -0.5
        for p in (self.image.weight, self.label.weight, self.bias):
            nn.init.uniform_(p, -bound, bound)

    def forward(self, x: Tensor, labels: Tensor, s: Tensor | None = None) -> Tensor:
        """-> (k * batch, outputs): all rows with their first label, then the second, ...

        x: (batch, inputs); labels: (k * batch, classes) in that order; s: (k * batch, 1),
        a factor of each row, None for 1.
        """
        z = self.label(labels).view(-1, len(x), len(self.bias))
        z = z.add_(self.image(x)).flatten(0, 1)
        return z.add_(self.bias) if s is None else torch.addcmul(self.bias, s, z)

    def write(
        self, delta, x, labels, s=None, extra: tuple[Tensor, ...] = (), outputs=None
    ) -> None:
        """Set `.grad` as `TaughtLinear.write` does; the k rows of an x are added first.

        delta: (k * batch, outputs), whose memory is used up; extra: delta, x and labels
        of further rows, each x with a single label and s = 1; outputs: as there.
        """
        bias = delta.sum(0)
        if s is not None:
            delta *= s
        labelled, (shared, *others) = (labels, delta), delta.split(len(x))
        if extra:
            bias += extra[0].sum(0)
            labelled = torch.cat([labels, extra[2]]), torch.cat([delta, extra[0]])
        # a product with few rows is much faster than its transpose, with few columns
        label = (labelled[0].T @ labelled[1]).T.contiguous()
        for other in others:
            shared += other
        if extra:
            shared, x = torch.cat([shared, extra[0]]), torch.cat([x, extra[1]])
        grads = (self.image.weight, shared.T @ x), (self.label.weight, label)
        for parameter, grad in (*grads, (self.bias, bias)):
            parameter.grad = spread(grad, 0, outputs, len(self.bias))


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
