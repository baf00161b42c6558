"""A kernel forked before anything of Jupyter runs, which waits for its connection file.

A forked worker makes one at once, while it still has a single thread and no sockets.
When papermill asks for a kernel, it is told what to be; it has been the worker's child
all along, so that limits, interrupts and the death of its parent reach it as ever.
"""

import contextlib
import json
import os
import signal
import sys
import traceback
from importlib.metadata import EntryPoint
from pathlib import Path

from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

from bpfree_common.running.kernel import forget_the_laboratory
from bpfree_common.running.processes import die_with_parent

PROVISIONER = "bpfree-seed"


class Seed:
    """The waiting process, with the face of `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self):
        wait, self._tell = os.pipe()
        self.returncode: int | None = None
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._tell)
            _wait_and_become(wait, parent)
        os.close(wait)

    def launch(self, arguments: list[str], environment: dict, cwd: str | None) -> None:
        """Have the process be the kernel of ``-f CONNECTION_FILE ...``."""
        order = json.dumps([arguments, environment, cwd or str(Path.cwd())])
        with os.fdopen(self._tell, "w") as stream:
            stream.write(order)

    def poll(self) -> int | None:
        """The exit code, None while it lives."""
        return self._wait(os.WNOHANG)

    def wait(self) -> int:
        """The exit code, when it has ended."""
        return self._wait(0)

    def _wait(self, options: int) -> int | None:
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, options)
            except ChildProcessError:  # somebody else has waited for it
                self.returncode = -signal.SIGKILL
            else:
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it lives."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)


class SeedProvisioner(LocalProvisioner):
    """Hands out the worker's seed where a kernel process would be started."""

    seed: Seed | None = None

    async def launch_kernel(self, cmd: list[str], **options):
        """Turn the seed into the kernel that `cmd` would start."""
        self.process = type(self).seed
        arguments = cmd[cmd.index("-f") :]
        self.process.launch(arguments, options["env"], options.get("cwd"))
        self.pid = self.pgid = self.process.pid
        return self.connection_info


def offer(seed: Seed) -> dict:
    """Metadata of a kernel specification whose kernel will be `seed`."""
    SeedProvisioner.seed = seed
    entry = f"{SeedProvisioner.__module__}:{SeedProvisioner.__name__}"
    group = KernelProvisionerFactory.GROUP_NAME
    known = KernelProvisionerFactory.instance().provisioners
    known[PROVISIONER] = EntryPoint(PROVISIONER, entry, group)
    return {"kernel_provisioner": {"provisioner_name": PROVISIONER}}


def _wait_and_become(wait: int, parent: int) -> None:
    """In the child: read the order, then be that kernel until it ends."""
    code = 0
    try:
        die_with_parent(parent)
        with os.fdopen(wait) as stream:
            order = stream.read()
        if order:
            arguments, environment, cwd = json.loads(order)
            os.environ.clear()
            os.environ.update(environment)
            os.chdir(cwd)
            become_kernel(arguments, parent)
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else int(bool(leave.code))
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def become_kernel(arguments: list[str], parent: int) -> None:
    """Be an IPython kernel, as if started by `python -m bpfree_common.running.kernel`."""
    os.environ["JPY_PARENT_PID"] = str(parent)
    os.setsid()
    sys.argv = ["kernel", *arguments]
    forget_the_laboratory()
    from ipykernel.kernelapp import launch_new_instance

    launch_new_instance()
