"""Batches as slices of tensors in memory, and the groups in which they are trained on."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor


def step_seed(seed: int, epoch: int, step: int) -> int:
    """The random seed of one training step; distinct for distinct steps."""
    return (seed * 1_000_003 + epoch) * 1_000_003 + step


class Batches:
    """Batches of a split as index slices of tensors in memory.

    The order is drawn anew each epoch, keyed by (seed, epoch) alone. With several ranks
    each takes its share of every batch. An incomplete last batch is dropped when
    shuffling, so that every step has the same cost.
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        size: int,
        shuffle_seed: int | None = None,
        rank: int = 0,
        ranks: int = 1,
    ):
        self.x, self.y = x, y
        self.size = min(size, len(y))
        self.shuffle_seed = shuffle_seed
        self.rank, self.ranks = rank, ranks
        self.epoch = 0
        self.sampler, self.batch_sampler = self, None  # Lightning calls `set_epoch`

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of this epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        if self.shuffle_seed is None:
            return -(-len(self.y) // self.size)
        return len(self.y) // self.size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self.shuffle_seed is None:
            yield from zip(self.x.split(self.size), self.y.split(self.size), strict=True)
            return
        generator = torch.Generator().manual_seed(
            step_seed(self.shuffle_seed, self.epoch, 0)
        )
        order = torch.randperm(len(self.y), generator=generator).to(self.x.device)
        for indices in order.split(self.size)[: len(self)]:
            indices = indices[self.rank :: self.ranks]
            # three to five times as fast as x[indices]
            yield self.x.index_select(0, indices), self.y.index_select(0, indices)


@dataclass
class Execution:
    """Consecutive batches, made one by one; `first` counts the steps before them."""

    batches: Iterator[tuple[Tensor, Tensor]]
    first: int


class Executions:
    """Batches in groups of `steps`, each of which Lightning takes for one batch.

    Between two batches Lightning runs about a dozen hooks, some 0.3 ms of Python.
    """

    def __init__(self, batches: Batches, steps: int):
        self.batches, self.steps = batches, steps
        self.sampler, self.batch_sampler = batches, None  # Lightning calls `set_epoch`

    def __len__(self) -> int:
        return -(-len(self.batches) // self.steps)

    def __iter__(self) -> Iterator[Execution]:
        batches = iter(self.batches)
        for first in range(0, len(self.batches), self.steps):
            yield Execution(islice(batches, self.steps), first)
