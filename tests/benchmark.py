"""Benchmarks, run by hand with ``make bench``: ratios measured in one run, never tests.

1. What a step of a rule costs through the trainer, over a bare PyTorch loop, in time of
   the process: others on the machine do not count.
2. Step time over FLOPs, both relative to backpropagation, from the committed records.
3. How long the quick notebooks took, start-up included.
4. The processor time of a few quick notebooks with forked kernels, over plain ones.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import torch
from lightning.pytorch.callbacks import Callback
from torch.nn import functional as F

from bpfree_common import Backprop, mlp, sgd
from bpfree_common.learning.batches import Batches, Executions
from bpfree_common.learning.training import STEPS_PER_EXECUTION, trainer
from bpfree_common.studies import overview, tables

NOTEBOOKS = ["comq", "forward_forward", "forward_gnn", "pepita", "template"]
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


def processor_seconds(slugs: list[str], fork: str) -> float:
    """User and system time of one `run`, of its workers and of their kernels."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as reports:
        command = [sys.executable, "-m", "bpfree_common", "run", *slugs]
        subprocess.run(
            [*command, "--jobs", "1", "--reports", reports],
            env=os.environ | {"BPFREE_FORK": fork},
            stdout=subprocess.DEVNULL,
            check=True,
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def price_of_a_start() -> None:
    plain = processor_seconds(NOTEBOOKS, "0")
    forked = processor_seconds(NOTEBOOKS, "1")
    print(f"\nprocessor seconds per quick notebook, {', '.join(NOTEBOOKS)}:")
    print(
        f"  plain {plain / len(NOTEBOOKS):.1f}, forked {forked / len(NOTEBOOKS):.1f} "
        f"with the warm process in it; ratio {forked / plain:.2f}"
    )


def main() -> None:
    laboratory_overhead()
    price_of_a_start()
    for profile in ("quick", "standard"):
        rows = overview.rows(profile)
        print(f"\nstep time and FLOPs over backpropagation's, {profile} records:")
        print(tables.markdown(overview.step_times(rows)).data)
        seconds = {
            row.entry.short: round(row.record["timing"]["seconds"], 1) for row in rows
        }
        print(f"seconds per notebook after start-up: {seconds}")


if __name__ == "__main__":
    main()
