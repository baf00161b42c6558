"""The environment variables of workers and kernels: the same for every user."""

import os
from importlib.util import find_spec
from pathlib import Path

from bpfree_common.running.processes import MARK

#: glibc: keep freed memory. A network whose buffers come from the system anew at every
#: step spends its time in page faults, until the allocator has learned its size.
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),  # the largest that glibc takes
    "MALLOC_TRIM_THRESHOLD_": str(256 * 2**20),
}


def environment(threads: int, mark: str, scratch: Path, svg: bool = False) -> dict:
    """This process's environment with what makes runs repeat.

    The user's own settings of IPython and matplotlib do not act in a report.
    """
    count = str(threads)
    own = {
        MARK: mark,
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "PYTHONHASHSEED": "0",
        "IPYTHONDIR": str(scratch / "ipython"),
        "BPFREE_SVG": "1" if svg else "",
    }
    return os.environ | MALLOC | own | _matplotlibrc()


def _matplotlibrc() -> dict:
    """matplotlib's own settings in place of the user's, found without importing it."""
    package = find_spec("matplotlib")
    if package is None:
        return {}
    return {"MATPLOTLIBRC": str(Path(package.origin).parent / "mpl-data/matplotlibrc")}
