"""A plugin for pytest: nbval's run of the reports is the run that repeats them.

    pytest -p bpfree_common.running.repeat --nbval --again FOLDER reports/quick

nbval executes every notebook a second time and compares what its cells print. With this
plugin the kernels are forked from a warm process, as the runner's are, and leave their
records and figures in FOLDER, to be compared with the first ones bit for bit.
"""

import os
import shutil
import sys
import uuid
from pathlib import Path

import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager

from bpfree_common.papers.notebook import TIMING
from bpfree_common.running import processes, scratch
from bpfree_common.running.ask import AGAIN
from bpfree_common.running.environment import environment
from bpfree_common.running.forked import ADDRESS, Warm, possible

_SCRATCH = "BPFREE_SCRATCH"
FIRST_SCREEN = "study.found()"


class RepeatingManager(KernelManager):
    """Starts the runner's kernel by `ask`, with sockets where none can collide."""

    def __init__(self, **options):
        folder = Path(os.environ[_SCRATCH]) / uuid.uuid4().hex[:8]
        folder.mkdir()
        if scratch.fits(folder):
            options["transport"] = "ipc"
        super().__init__(connection_file=str(folder / "kernel.json"), **options)

    @property
    def kernel_spec(self) -> KernelSpec:
        """The one kernel there is."""
        command = [sys.executable, "-m", "bpfree_common.running.ask"]
        return KernelSpec(argv=[*command, "-f", "{connection_file}"], language="python")


class Repetition:
    """What the kernels of all of pytest's processes share; made by the first."""

    def __init__(self, again: Path):
        scratch.clear_leftovers()
        self.mark = uuid.uuid4().hex
        self.folder = scratch.open_scratch()
        shared = environment(threads=1, mark=self.mark, scratch=self.folder)
        shared |= {AGAIN: str(again.resolve()), _SCRATCH: str(self.folder)}
        worth = possible() and scratch.fits(self.folder)
        self.warm = Warm(self.folder, shared) if worth else None
        if self.warm and self.warm.ready():
            shared[ADDRESS] = self.warm.address
        os.environ.update(shared)

    def end(self) -> None:
        """Leave nothing running, and no sockets."""
        if self.warm:
            self.warm.stop()
        processes.kill_marked(self.mark)
        shutil.rmtree(self.folder, ignore_errors=True)


def pytest_addoption(parser) -> None:
    """Declare ``--again``."""
    words = "folder for the records and figures of the notebooks that nbval runs"
    parser.addoption("--again", type=Path, metavar="FOLDER", help=words)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config) -> None:
    """Have nbval start our kernels, in this process and in pytest-xdist's."""
    if config.option.again is None:
        raise pytest.UsageError("--again FOLDER is needed")
    import nbval.kernel

    nbval.kernel.KernelManager = RepeatingManager
    if not hasattr(config, "workerinput"):
        config.repetition = Repetition(config.option.again)


def pytest_unconfigure(config) -> None:
    """End what `pytest_configure` started."""
    if hasattr(config, "repetition"):
        config.repetition.end()


def pytest_collection_modifyitems(items) -> None:
    """Compare the outputs of all cells but those that cannot repeat under nbval.

    Times differ; the first screen is filled by the last cell, which nbval does not see
    (its sentences and its figure are compared in the record); and nbval keeps no
    history, so that IPython shows the value of a last line although a semicolon asks it
    not to.
    """
    for item in items:
        cell = getattr(item, "cell", None)
        if cell is not None and (
            TIMING in cell.metadata.get("tags", [])
            or FIRST_SCREEN in cell.source
            or (cell.source.rstrip().endswith(";") and not cell.outputs)
        ):
            item.options["check"] = False
