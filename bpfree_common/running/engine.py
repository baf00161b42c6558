"""papermill's engine and kernel, as the runner needs them."""

import json
import os
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from bpfree_common.running import processes, scratch

#: Seconds for a cell's outputs to arrive after its end; papermill's 4 are few for 100 MB.
OUTPUT_PATIENCE = 60
SAVE_EVERY = 2.0  # seconds between two saves of a running notebook


def manager(folder: Path, seed=None):
    """A kernel manager whose sockets lie in `folder`, and whose kernel may be `seed`.

    Where the path is too long for sockets, the kernel is reached by TCP.
    """
    # the asynchronous manager: a blocking client would never notice a dead kernel
    from jupyter_client.manager import AsyncKernelManager

    folder.mkdir(parents=True, exist_ok=True)
    return AsyncKernelManager(
        transport="ipc" if scratch.fits(folder) else "tcp",
        connection_file=str(folder / "kernel.json"),
        kernel_spec_manager=_own_kernel(seed),
    )


def _own_kernel(seed):
    """A kernel-spec manager that knows one kernel: this very environment's."""
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

    metadata = {}
    if seed is not None:
        from bpfree_common.running.seed import offer

        metadata = offer(seed)

    class OwnKernel(KernelSpecManager):
        def get_kernel_spec(self, kernel_name):
            command = [sys.executable, "-m", "bpfree_common.running.kernel"]
            return KernelSpec(
                argv=[*command, "-f", "{connection_file}"],
                display_name="Python 3",
                language="python",
                metadata=metadata,
            )

    return OwnKernel()


def watching(folder: Path):
    """papermill's engine, reporting the number of the running cell to `folder`."""
    from papermill.engines import NBClientEngine

    from bpfree_common.running.execute import CELLS

    class Watching(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **options):
            started = nb_man.cell_start

            def cell_start(cell, cell_index=None, **more):
                state = {"cell": cell_index, "cells": len(nb_man.nb.cells)}
                part = folder / f"{CELLS}.part"
                part.write_text(json.dumps(state))
                part.replace(folder / CELLS)
                return started(cell, cell_index, **more)

            nb_man.cell_start = cell_start
            with _saving_now_and_then(nb_man):
                return super().execute_managed_notebook(nb_man, kernel_name, **options)

    return Watching


@contextmanager
def _saving_now_and_then(nb_man):
    """Save the notebook at most every `SAVE_EVERY` seconds, and at the end.

    papermill saves it twice a cell, which encodes every picture again each time. When
    the runner ends this process by SIGTERM, its time being over, it is saved once more.
    """
    save, last = nb_man.save, time.monotonic()

    def seldom(**more):
        nonlocal last
        if time.monotonic() - last >= SAVE_EVERY:
            save(**more)
            last = time.monotonic()

    def stop(number, _) -> None:
        processes.kill_children()
        save()
        os._exit(128 + number)

    nb_man.save = seldom
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        nb_man.save = save
