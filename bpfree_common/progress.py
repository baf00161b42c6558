"""Where a running notebook says how far it is.

The runner names a file in `BPFREE_PROGRESS`, which its live view reads; where it is empty
nothing is said. Without it, in JupyterLab, a bar under the cell says it.
"""

import json
import os
import sys
import time
from pathlib import Path

_EVERY = 0.2  # seconds between two reports
_last = 0.0
_bar = None  # the one on the screen


def report(stage: str, epoch: int, epochs: int) -> None:
    """Say that `stage` has finished `epoch` of `epochs`; 0 when it begins."""
    global _last
    target, now = os.environ.get("BPFREE_PROGRESS"), time.monotonic()
    if target is None and _in_notebook():
        _show(stage, epoch, epochs)
    if not target or (now - _last < _EVERY and epoch < epochs):
        return
    _last = now
    part = Path(f"{target}.part")
    part.write_text(json.dumps({"stage": stage, "epoch": epoch, "epochs": epochs}))
    part.replace(target)


def _in_notebook() -> bool:
    """Whether a Jupyter kernel runs this."""
    kernels = sys.modules.get("ipykernel.zmqshell")
    return kernels is not None and kernels.ZMQInteractiveShell.initialized()


def _show(stage: str, epoch: int, epochs: int) -> None:
    """A bar with the time that is left; it goes when the stage is over."""
    from tqdm import tqdm

    global _bar
    if _bar is None or _bar.desc != f"{stage}: " or epoch < _bar.n:
        if _bar is not None:
            _bar.close()
        _bar = tqdm(
            desc=stage, total=epochs, initial=epoch, unit="epoch", leave=False,
            file=sys.stdout, ncols=80,
        )  # fmt: skip
    _bar.update(epoch - _bar.n)
    if epoch >= epochs:
        _bar.close()
        _bar = None


def announce(text: str) -> None:
    """Say what is going on, in the runner's live view or, without a runner, on stdout.

    Nothing goes into a report: the next run may not need to download what this one does.
    """
    if "BPFREE_PROGRESS" in os.environ:
        report(text, 1, 1)
    else:
        print(text, flush=True)


#: What a report may say, and of which type; a notebook may have written anything.
_FIELDS = {"stage": str, "epoch": int, "epochs": int, "cell": int, "cells": int}
_LONGEST, _STAGE = 4096, 60  # bytes of a report, characters of its stage


def read(path: Path) -> dict:
    """The last report in `path`, as far as it makes sense; empty if it makes none."""
    try:
        if not path.is_file():
            return {}
        with path.open("rb") as stream:
            found = json.loads(stream.read(_LONGEST).decode())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    good = {name: v for name, v in found.items() if type(v) is _FIELDS.get(name)}
    if "stage" in good:
        good["stage"] = " ".join(good["stage"].split())[:_STAGE]
    for count, total in (("epoch", "epochs"), ("cell", "cells")):
        if not {count, total} <= good.keys():  # one says nothing without the other
            good.pop(count, None), good.pop(total, None)
    return good
