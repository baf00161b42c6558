"""Floating-point operations of one tensor operation.

PyTorch's own table counts products of matrices and convolutions. Added here are products
with sparse factors, products with vectors, and outer products by broadcasting, with
which a rule could multiply matrices without calling it so. Other element-wise work is
not counted, nor are decompositions (singular values, inverses).
"""

from functools import cache
from math import prod

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten


@cache
def family(packet):
    """The operation itself for its form in place: ``addmm`` for ``addmm_``."""
    name = packet.__name__
    if name.endswith("_") and not name.startswith("_") and hasattr(aten, name[:-1]):
        return getattr(aten, name[:-1])
    return packet


def count(packet, args: tuple, kwargs: dict, out) -> int:
    """FLOPs of `packet`, an operation of ``torch.ops``, called with `args`."""
    if packet in _OWN:
        return _OWN[packet](args, out)
    if packet in flop_registry:
        return int(flop_registry[packet](*args, **kwargs, out_val=out))
    return 0


def matrix_product(a: Tensor, b: Tensor) -> int:
    """2 n k m for (n, k) times (k, m); with a sparse factor 2 x nonzeros x columns."""
    if a.layout != torch.strided:
        return 2 * a._nnz() * b.shape[-1]
    if b.layout != torch.strided:
        return 2 * b._nnz() * a.shape[0]
    return 2 * a.shape[0] * a.shape[1] * b.shape[1]


def _outer(args: tuple, out) -> int:
    """A product of elements is one of matrices where it outgrows both factors."""
    sizes = [t.numel() for t in args[:2] if torch.is_tensor(t)]
    if len(sizes) < 2 or not torch.is_tensor(out) or out.numel() <= max(sizes):
        return 0
    return 2 * prod(out.shape)  # the product and, later, the sum


_OWN = {
    aten.mm: lambda args, out: matrix_product(*args[:2]),
    aten.addmm: lambda args, out: matrix_product(*args[1:3]),
    aten.mv: lambda args, out: 2 * args[0].numel(),
    aten.addmv: lambda args, out: 2 * args[1].numel(),
    aten.dot: lambda args, out: 2 * args[0].numel(),
    aten.vdot: lambda args, out: 2 * args[0].numel(),
    aten.addr: lambda args, out: 2 * args[1].numel() * args[2].numel(),
    aten.mul: _outer,
}
