"""Benchmarks, run by hand with ``make bench``: ratios measured in one run, never tests.

1. What a step of a rule costs through the trainer, over a bare PyTorch loop.
2. Step time over FLOPs, both relative to backpropagation, from the committed records.
3. How long the quick notebooks took, start-up included.
"""

import statistics
import time

import torch
from lightning.pytorch.callbacks import Callback
from torch.nn import functional as F

from bpfree_common import Backprop, mlp, records, sgd
from bpfree_common.learning.batches import Batches, Executions
from bpfree_common.learning.training import STEPS_PER_EXECUTION, trainer
from bpfree_common.studies import pages as overview

SIZES, BATCH, PAIRS = [784, 1000, 1000, 10], 128, 9
WARM, STEPS = STEPS_PER_EXECUTION, 2 * STEPS_PER_EXECUTION


class Stopwatch(Callback):
    """Seconds from the end of the first execution to the end of the last step."""

    def on_train_batch_start(self, trainer, rule, batch, batch_idx) -> None:
        if batch.first == WARM:
            self.start = time.perf_counter()

    def on_train_batch_end(self, trainer, rule, outputs, batch, batch_idx) -> None:
        self.seconds = time.perf_counter() - self.start if batch.first else 0.0


def through_the_trainer(x, y) -> float:
    torch.manual_seed(0)
    rule = Backprop(mlp(SIZES), sgd(0.01, momentum=0.9))
    watch = Stopwatch()
    batches = Executions(Batches(x, y, BATCH, shuffle_seed=0), STEPS_PER_EXECUTION)
    trainer(1, callbacks=[watch]).fit(rule, batches)
    return watch.seconds / STEPS


def bare_loop(x, y) -> float:
    torch.manual_seed(0)
    network = torch.nn.Sequential(*mlp(SIZES))
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, fused=True)
    for step, (inputs, labels) in enumerate(Batches(x, y, BATCH, shuffle_seed=0)):
        if step == WARM:
            start = time.perf_counter()
        optimizer.zero_grad()
        F.cross_entropy(network(inputs), labels).backward()
        optimizer.step()
    return (time.perf_counter() - start) / STEPS


def laboratory_overhead() -> None:
    samples = BATCH * (WARM + STEPS)
    x, y = torch.randn(samples, SIZES[0]), torch.randint(0, 10, (samples,))
    pairs = [(through_the_trainer(x, y), bare_loop(x, y)) for _ in range(PAIRS)]
    ratios = sorted(a / b for a, b in pairs)
    network = "-".join(map(str, SIZES))
    print(f"step through the trainer / bare loop ({network}, batch {BATCH}):")
    print(
        f"  median {statistics.median(ratios):.3f}, {ratios[0]:.3f} to {ratios[-1]:.3f}"
    )


def main() -> None:
    laboratory_overhead()
    for profile in ("quick", "standard"):
        found = records.load_all(profile)
        print(f"\nstep time and FLOPs over backpropagation's, {profile} records:")
        print(overview.step_times(found).to_string())
        seconds = {r["short"]: round(r["timing"]["seconds"], 1) for r in found.values()}
        print(f"seconds per notebook after start-up: {seconds}")


if __name__ == "__main__":
    main()
