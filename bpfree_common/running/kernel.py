"""The Jupyter kernel of a run: it dies with the process that started it.

Started as ``python -m bpfree_common.running.kernel -f CONNECTION_FILE``, so that
a notebook always runs in the environment of the runner, whatever kernels the user has;
or forked from a process that has imported the libraries already (`warm`).
"""

import os
import sys

from bpfree_common.running.processes import die_with_parent


def main() -> None:
    """Tie this process to its parent, then become an ordinary IPython kernel."""
    die_with_parent(int(os.environ["JPY_PARENT_PID"]))
    forget_the_laboratory()
    from ipykernel.kernelapp import launch_new_instance

    launch_new_instance()


def forget_the_laboratory() -> None:
    """Take the laboratory's modules out of this process.

    A notebook then imports them itself, from the files as they are now, and a record
    names those that the notebook used, not those that started its kernel.
    """
    for name in list(sys.modules):
        if name.partition(".")[0] == "bpfree_common":
            del sys.modules[name]
    own = "bpfree_common."
    sys.meta_path[:] = [
        m for m in sys.meta_path if not type(m).__module__.startswith(own)
    ]


if __name__ == "__main__":
    main()
