"""A kernel's stand-in: asks the warm process for a fork that is the kernel, and waits.

Started as ``python -m bpfree_common.running.ask -f CONNECTION_FILE`` by a program that
starts kernels itself, as nbval does. Signals are handed on; killing the stand-in kills
the kernel. Without a warm process it becomes an ordinary kernel of the runner.
"""

import os
import signal
import sys
from pathlib import Path

from bpfree_common.running.forked import ADDRESS, Forked

#: Folder for the records and figures of notebooks that are run again.
AGAIN = "BPFREE_AGAIN"


def main(arguments: list[str]) -> int:
    """Be the kernel of ``-f CONNECTION_FILE``, by proxy or in person."""
    os.environ.update(repetition(os.environ.get(AGAIN), Path.cwd()))
    address = os.environ.get(ADDRESS)
    if address:
        try:
            kernel = Forked(address, "kernel", arguments, dict(os.environ), [0, 1, 2])
        except OSError:  # it has ended
            address = None
    if not address:
        plain = [sys.executable, "-m", "bpfree_common.running.kernel", *arguments]
        os.execv(sys.executable, plain)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: kernel.send_signal(number))
    return kernel.wait() & 0xFF


def repetition(again: str | None, report: Path) -> dict:
    """Environment of a notebook that is run again where its report lies.

    Its record and figures go into a folder of their own, made here; as SVG too if the
    report has them so. It is a run of the profile in whose folder the report lies.
    """
    if not again:
        return {}
    Path(again, report.name).mkdir(parents=True, exist_ok=True)
    vector = "1" if any((report / "figures").glob("*.svg")) else ""
    return {
        "BPFREE_RUN_DIR": f"{again}/{report.name}",
        "BPFREE_PROGRESS": "",  # nobody looks
        "BPFREE_SVG": vector,
        "BPFREE_PROFILE": report.parent.name,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
