"""Random directions that are cheap to draw and need not be stored.

A direction is keyed by (seed, step, index), so that whoever knows these three numbers
draws it again: a perturbation need not be kept until its loss is known, and a distant
client may be sent two numbers instead of a vector. Equal keys give equal directions on
equal types of device.
"""

import torch
from torch import Tensor

_MASK = 2**64 - 1


def key(seed: int, step: int, index: int = 0) -> int:
    """A 63-bit seed from three counters; close counters give unrelated seeds.

    Each counter is mixed in by a round of SplitMix64 (Steele, Lea and Flood 2014).
    """
    state = 0
    for counter in (seed, step, index):
        state = (state + counter + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ state >> 27) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


def generator(
    seed: int, step: int, index: int = 0, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A generator of its own for direction `index` of step `step`.

    On a CPU PyTorch keeps 32 bits of its seed: of n directions about n^2 / 2^33 pairs
    are equal by chance, 27 of half a million.
    """
    return torch.Generator(device).manual_seed(key(seed, step, index))


def gaussian_like(tensor: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard normal numbers in the shape, type and device of `tensor`."""
    made = torch.empty_like(tensor, requires_grad=False)
    return made.normal_(generator=generator)


def rademacher_like(tensor: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """+1 or -1, each with probability 1/2, in the shape, type and device of `tensor`.

    64 signs come from one random word: several times as fast as normal numbers, with the
    same mean 0 and covariance I. generator: PyTorch's global one when None.
    """
    words = torch.empty(-(-tensor.numel() // 64), dtype=torch.int64, device=tensor.device)
    words.random_(-(2**63), None, generator=generator)  # all 64 bits, the sign included
    octets = words.view(torch.uint8).int()
    signs = _SIGNS.to(tensor.device, tensor.dtype).index_select(0, octets)
    return signs.flatten()[: tensor.numel()].view(tensor.shape)


#: Row b: the eight signs that the bits of b stand for, lowest bit first.
_SIGNS = 1.0 - 2.0 * (torch.arange(256)[:, None] >> torch.arange(8) & 1).float()
