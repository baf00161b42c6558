"""Benchmarks, run by hand with ``make bench``: ratios measured in one run, never tests.

1. What a step of a rule costs through the trainer, over a bare PyTorch loop, in time of
   the process: others on the machine do not count.
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
from bpfree_common.studies import overview

#: Sizes of a network, batch, and steps that are timed: small ones show the trainer most.
NETWORKS = [
    ([64, 32, 10], 32, 1280),
    ([784, 128, 128, 128, 10], 64, 640),
    ([784, 1000, 1000, 10], 128, 128),
]
PAIRS, WARM = 7, STEPS_PER_EXECUTION


class Stopwatch(Callback):
    """Seconds from the end of the first execution to the end of the last step."""

    def on_train_batch_start(self, trainer, rule, batch, batch_idx) -> None:
        if batch.first == WARM:
            self.start = time.process_time()

    def on_train_batch_end(self, trainer, rule, outputs, batch, batch_idx) -> None:
        self.seconds = time.process_time() - self.start if batch.first else 0.0


def through_the_trainer(sizes, batch, x, y) -> float:
    torch.manual_seed(0)
    rule = Backprop(mlp(sizes), sgd(0.01, momentum=0.9))
    watch = Stopwatch()
    batches = Executions(Batches(x, y, batch, shuffle_seed=0), STEPS_PER_EXECUTION)
    trainer(1, callbacks=[watch]).fit(rule, batches)
    return watch.seconds


def bare_loop(sizes, batch, x, y) -> float:
    torch.manual_seed(0)
    network = torch.nn.Sequential(*mlp(sizes))
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, fused=True)
    for step, (inputs, labels) in enumerate(Batches(x, y, batch, shuffle_seed=0)):
        if step == WARM:
            start = time.process_time()
        optimizer.zero_grad()
        F.cross_entropy(network(inputs), labels).backward()
        optimizer.step()
    return time.process_time() - start


def laboratory_overhead() -> None:
    print("step through the trainer / bare loop, process time:")
    for sizes, batch, steps in NETWORKS:
        samples = batch * (WARM + steps)
        x, y = torch.randn(samples, sizes[0]), torch.randint(0, 10, (samples,))
        arguments = sizes, batch, x, y
        bare_loop(*arguments)  # page faults of a young process
        pairs = [
            (through_the_trainer(*arguments), bare_loop(*arguments)) for _ in range(PAIRS)
        ]
        ratios = sorted(a / b for a, b in pairs)
        more = statistics.median(a - b for a, b in pairs) / steps * 1e6
        network = "-".join(map(str, sizes))
        print(
            f"  {network}, batch {batch}: {statistics.median(ratios):.3f}"
            f" ({ratios[0]:.3f} to {ratios[-1]:.3f}), {more:+.0f} microseconds a step"
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
