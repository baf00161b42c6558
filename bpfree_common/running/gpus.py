"""Which GPUs notebooks may use, found without PyTorch."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path


def gpus(devices: Path = Path("/dev")) -> list[str]:
    """Names for ``CUDA_VISIBLE_DEVICES``, one per GPU; none where notebooks use the CPU.

    Those that ``CUDA_VISIBLE_DEVICES`` names where it is set (a batch system sets it),
    else all that NVIDIA's driver has put into `devices`.
    """
    if os.environ.get("BPFREE_DEVICE") == "cpu":
        return []
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip()]
    if not (devices / "nvidiactl").exists():
        return []
    return sorted((p.name[6:] for p in devices.glob("nvidia[0-9]*")), key=int)


def jobs_at_once() -> int:
    """One job per GPU; without any, one per processor that this process may use."""
    if found := gpus():
        return len(found)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def least_used(known: list[str], taken: Iterable[str]) -> str:
    """The GPU that the fewest of the running jobs have; of equals the first."""
    load = Counter(taken)
    return min(known, key=lambda name: load[name])
