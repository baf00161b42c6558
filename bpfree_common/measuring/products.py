"""Products of data with weights: which way a weight is used, and what it is fed.

A weight is a matrix, convolutions being flattened to (outputs, inputs x window). It is
used along its `minor` direction when the product sums over the latter (``x @ W.T``),
along its
`major` direction when it sums over outputs (``delta @ W``). Which of the two is forward,
a forward pass tells.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

aten = torch.ops.aten
MINOR, MAJOR = "minor", "major"


@dataclass(frozen=True)
class Product:
    """One product: an operand that may be a weight, and the data it multiplies.

    summed: dimension of `weight` that is summed over; None for a convolution, whose
        direction is known, and for a look-up.
    window: (stride, padding, dilation, groups) of a convolution.
    """

    weight: Tensor
    data: Tensor
    summed: int | None = None
    direction: str = ""
    window: tuple = ()
    lookup: bool = False

    def rows(self) -> float:
        """Samples that the data hold: rows of a matrix, images of a convolution."""
        if self.window or self.lookup:
            return self.data.shape[0]
        summed = self.weight.shape[self.summed]
        return self.data.numel() / max(summed, 1)

    def matrix(self) -> Tensor | None:
        """The data as (rows, inputs), for the null space; None where there is none."""
        data = self.data.to_dense() if self.data.layout != torch.strided else self.data
        if self.lookup:
            return data.flatten()
        if self.window:
            return _columns(data, self.weight, self.window, self.direction)
        left = self.summed == self.weight.dim() - 1  # the weight stands on the left
        return (data.mT if left else data).reshape(-1, self.weight.shape[self.summed])


def products(packet, args: tuple) -> Iterator[Product]:
    """All readings of an operation as a product of data with a weight."""
    if packet in _MATRICES:
        a, b = args[_MATRICES[packet] : _MATRICES[packet] + 2]
        yield Product(b, a, b.dim() - 2)
        yield Product(a, b, a.dim() - 1)
    elif packet in (aten.mv, aten.addmv):
        a, x = args[packet is aten.addmv :][:2]
        yield Product(a, x[:, None], 1)
    elif packet in (aten.convolution, aten._convolution):
        x, weight, _, stride, padding, dilation, transposed, _, groups = args[:9]
        window = (tuple(stride), tuple(padding), tuple(dilation), groups)
        yield Product(weight, x, None, MAJOR if transposed else MINOR, window)
    elif packet is aten.convolution_backward and args[10][0]:
        grad, _, weight, _, stride, padding, dilation, transposed, _, groups = args[:10]
        window = (tuple(stride), tuple(padding), tuple(dilation), groups)
        yield Product(weight, grad, None, MINOR if transposed else MAJOR, window)
    elif packet is aten.embedding:
        yield Product(args[0], args[1], None, MINOR, lookup=True)


_MATRICES = {aten.mm: 0, aten.bmm: 0, aten.addmm: 1, aten.baddbmm: 1}
_CONVOLUTIONS = {aten.convolution, aten._convolution, aten.convolution_backward}
#: The operations that `products` reads.
PRODUCTS = {*_MATRICES, *_CONVOLUTIONS, aten.mv, aten.addmv, aten.embedding}


def direction(product: Product, shape: tuple[int, ...], turned: bool) -> str:
    """Along which direction of a weight of `shape` the product sums.

    turned: whether the operand's memory holds the weight transposed.
    """
    if product.summed is None:
        return product.direction
    view, summed = product.weight, product.summed
    other = 2 * view.dim() - 3 - summed  # the other one of the last two dimensions
    outputs, inputs = shape[0], torch.Size(shape[1:]).numel()
    sizes = view.shape[summed], view.shape[other]
    if outputs != inputs and sizes == (inputs, outputs):
        return MINOR
    if outputs != inputs and sizes == (outputs, inputs):
        return MAJOR
    minor = view.stride(summed) < view.stride(other)
    return MINOR if minor != turned else MAJOR


def _columns(x: Tensor, weight: Tensor, window: tuple, way: str) -> Tensor | None:
    """What each output of a convolution sums over, (rows, inputs x window)."""
    stride, padding, dilation, groups = window
    if way == MAJOR:  # transposed: every position is a row of channels
        return x.movedim(1, -1).reshape(-1, x.shape[1]) if groups == 1 else None
    if x.dim() == 3:  # in one dimension: an image of height 1
        x, shape = x[:, :, None], (1, weight.shape[2])
        stride, padding, dilation = (1, *stride), (0, *padding), (1, *dilation)
    elif x.dim() == 4:
        shape = tuple(weight.shape[2:])
    else:
        return None
    columns = F.unfold(x, shape, dilation, padding, stride).transpose(1, 2)
    return columns.reshape(-1, columns.shape[-1] // groups)
