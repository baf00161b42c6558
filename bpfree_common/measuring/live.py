"""Bytes alive: every tensor that a training step makes, from its birth to its release.

A tensor is followed by its memory, wherever it is kept: in variables, attributes,
closures, containers, graphs of autograd, or NumPy arrays that share it. A tensor that
leaves
PyTorch (copied to NumPy, pickled, written as a list) is counted as held until the end of
the step, since nobody can see when its copy goes.
"""

import itertools
import weakref
from collections import defaultdict

import torch
from torch import Tensor


def plain(x: Tensor) -> Tensor:
    """The tensor inside the wrappers of `torch.func`."""
    while torch._C._functorch.is_functorch_wrapped_tensor(x):
        x = torch._C._functorch.get_unwrapped(x)
    return x


def key(x: Tensor) -> int:
    """Identity of the memory behind a tensor; of a sparse one, that of its values."""
    x = plain(x)
    if x.layout != torch.strided:
        x = x.values() if x.layout != torch.sparse_coo else x._values()
    return x.untyped_storage()._cdata


class Births:
    """The bytes gained and lost, in order; `begin` opens a step, `peak` closes it."""

    def __init__(self):
        self.alive: dict[int, int] = {}  # memory -> number of its birth
        self._events: list[tuple[int, int]] = []  # (number of birth, bytes)
        self._held: set[int] = set()  # births that left PyTorch
        self._excused: set[int] = set()
        self._numbers = itertools.count()

    def begin(self) -> None:
        """Keep what earlier steps parked and is still alive, forget how it came."""
        balance: dict[int, int] = defaultdict(int)
        living = set(self.alive.values())
        for number, change in self._events:
            balance[number] += change
        self._events = [(n, b) for n, b in balance.items() if n in living]
        self._held.clear()

    def born(self, tensor: Tensor) -> None:
        """A tensor whose memory is new."""
        storage = tensor.untyped_storage()
        memory, number = storage._cdata, next(self._numbers)
        self.alive[memory] = number
        self._events.append((number, storage.nbytes()))
        weakref.finalize(storage, self._died, memory, number, storage.nbytes())

    def _died(self, memory: int, number: int, size: int) -> None:
        if self.alive.get(memory) == number:
            del self.alive[memory]
        if number not in self._held:
            self._events.append((number, -size))

    def left(self, tensor: Tensor) -> None:
        """A tensor was handed out of PyTorch."""
        number = self.alive.get(key(tensor))
        if number is None:  # older than the steps: its copy is a birth
            self._events.append((next(self._numbers), tensor.nbytes))
        else:
            self._held.add(number)

    def excuse(self, memories: set[int]) -> None:
        """Leave what lives at these memories out of all peaks, from now on."""
        self._excused |= {self.alive[m] for m in memories if m in self.alive}

    def peak(self) -> int:
        """Peak of the bytes alive at once since the step was opened."""
        changes = [b for number, b in self._events if number not in self._excused]
        return max(itertools.accumulate(changes), default=0)
