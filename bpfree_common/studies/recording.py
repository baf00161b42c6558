"""What a record says of the run itself: its surroundings, curves and identities."""

import math
import platform
import sys

import numpy as np
import torch

from bpfree_common import records
from bpfree_common.learning import training
from bpfree_common.studies import identities


def environment(precision: str) -> dict:
    """What ran this: versions, machine type, device, threads.

    precision: of products of float32 matrices in training.
    """
    import lightning

    where = training.device()
    gpu = torch.cuda.get_device_name(where) if where.type == "cuda" else None
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "numpy": np.__version__,
        "system": platform.system(),
        "machine": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": gpu or "cpu",
        "matmul_precision": precision,
        **records.surroundings(),
    }


def laboratory() -> list[str]:
    """Modules of the laboratory that are loaded, as "room.module"."""
    prefix = "bpfree_common."
    return sorted(m.removeprefix(prefix) for m in sys.modules if m.startswith(prefix))


def identities_held() -> list[dict]:
    """Names and tolerances of the identities that held, each once."""
    return list({held["name"]: held for held in identities.HELD}.values())


def finite_columns(history: list[dict]) -> dict[str, list]:
    """History rows as columns, rounded; alignment rows are lists per unit.

    What is no number, as in a diverged run, is None: JSON has none.
    """
    columns: dict[str, list] = {}
    for row in history:
        for name, value in row.items():
            per_unit = isinstance(value, list)
            value = [_finite(v, 5) for v in value] if per_unit else _finite(value, 6)
            columns.setdefault(name, []).append(value)
    return columns


def _finite(value, digits: int):
    if not isinstance(value, float):
        return value
    return round(value, digits) if math.isfinite(value) else None
