"""The Jupyter kernel of a run: it dies with the process that started it.

Started as ``python -m bpfree_common.running.kernel -f CONNECTION_FILE``, so that
a notebook always runs in the environment of the runner, whatever kernels the user has.
"""

import os

from bpfree_common.running.processes import die_with_parent


def main() -> None:
    """Tie this process to its parent, then become an ordinary IPython kernel."""
    die_with_parent(int(os.environ["JPY_PARENT_PID"]))
    from ipykernel.kernelapp import launch_new_instance

    launch_new_instance()


if __name__ == "__main__":
    main()
