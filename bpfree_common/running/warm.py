"""A process that has imported what every notebook imports, and forks on request.

Started as ``python -m bpfree_common.running.warm SOCKET``. Importing PyTorch, Lightning
and seaborn takes longer than many a quick notebook; a fork has them at once. Only other
people's libraries are loaded here, never the laboratory: what a notebook runs of it is
always what is on disk. A server lives as long as the process that started it, at most.

Every request comes on a connection of its own: a line of JSON (`kind`, `argument`,
`environment`, `cwd`) with three open files. The argument is a worker's staging folder, or
the list of a kernel's command-line arguments. The answer is a line with the child's
process number and, when it has ended, one with its exit code. Whoever closes the
connection kills the child.
"""

import builtins
import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace

from bpfree_common.running.processes import die_with_parent

READY = b"ready\n"
PATIENCE = 5  # seconds for a request to arrive whole

#: What a kernel and the first cell of a notebook load: nothing else, since a record may
#: name the libraries that its kernel had loaded.
LIBRARIES = (
    "ipykernel.kernelapp",
    "ipykernel.ipkernel",
    "IPython.core.completerlib",
    "IPython.display",
    "torch",
    "torch._dynamo",
    "torch.utils.flop_counter",
    "lightning",
    "lightning.pytorch.callbacks",
    "matplotlib.pyplot",
    "matplotlib.backends.backend_agg",
    "pandas",
    "seaborn",
    "scipy.sparse",
    "PIL.Image",
    "PIL.PngImagePlugin",
    "psutil",
    "yaml",
    "platformdirs",
)


#: What libraries put into the environment when imported; a fork needs it too.
ADDED: dict[str, str] = {}


def preload() -> None:
    """Import the libraries as if this were a notebook's kernel.

    Some look, when imported, whether they are in one: matplotlib for its backend, pandas
    for the width of tables, Lightning for an interactive session.
    """
    before = dict(os.environ)
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    builtins.get_ipython = lambda: SimpleNamespace(kernel=None)
    sys.ps1 = "In : "
    try:
        for name in ("pandas", *LIBRARIES):
            importlib.import_module(name)
    finally:
        del sys.ps1, builtins.get_ipython
    ADDED.update(os.environ.items() - before.items())
    gc.collect()
    gc.freeze()  # children leave these pages shared


def alone() -> bool:
    """Whether this process has one thread only: forking another's locks is unsafe."""
    return len(list(Path("/proc/self/task").iterdir())) == 1


class Server:
    """Listens on a Unix socket, forks, and tells how its children ended."""

    def __init__(self, listener: socket.socket):
        self.listener = listener
        self.children: dict[int, socket.socket] = {}
        self.selector = selectors.DefaultSelector()
        self.selector.register(listener, selectors.EVENT_READ)
        self.ended, wakeup = socket.socketpair()
        self.ended.setblocking(False)
        wakeup.setblocking(False)
        self.wakeup = wakeup
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakeup.fileno())
        self.selector.register(self.ended, selectors.EVENT_READ)

    def serve(self) -> None:
        """Answer requests until this process is killed."""
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is self.listener:
                    self._accept()
                elif key.fileobj is self.ended:
                    self._reap()
                else:
                    self._closed(key.fileobj)

    def _accept(self) -> None:
        connection, _ = self.listener.accept()
        connection.settimeout(PATIENCE)
        try:
            request, files = _receive(connection)
        except (OSError, ValueError):
            connection.close()
            return
        pid = os.fork()
        if pid == 0:
            self._become_child(request, files)
        for file in files:
            os.close(file)
        self.children[pid] = connection
        self.selector.register(connection, selectors.EVENT_READ)
        _say(connection, pid)

    def _become_child(self, request: dict, files: list[int]) -> None:
        """In the child: leave nothing of the server behind, then do what was asked."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self.selector.close()
            for open_socket in (self.listener, self.ended, self.wakeup):
                open_socket.close()
            for connection in self.children.values():
                connection.close()
            code = _run(request, files)
        except SystemExit as leave:
            code = leave.code if isinstance(leave.code, int) else int(bool(leave.code))
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        self.ended.recv(4096)
        for pid in list(self.children):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                connection = self.children.pop(pid)
                self._stop_listening(connection)
                _say(connection, os.waitstatus_to_exitcode(status))
                connection.close()

    def _closed(self, connection: socket.socket) -> None:
        """The other side has gone: so must its child; `_reap` does the rest."""
        self._stop_listening(connection)
        for pid, own in self.children.items():
            if own is connection:
                os.kill(pid, signal.SIGKILL)

    def _stop_listening(self, connection: socket.socket) -> None:
        with contextlib.suppress(KeyError):
            self.selector.unregister(connection)


def _say(connection: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more
        connection.sendall(b"%d\n" % number)


def _receive(connection: socket.socket) -> tuple[dict, list[int]]:
    """The request of one connection: a line of JSON and three open files."""
    text, files, _, _ = socket.recv_fds(connection, 1 << 16, 3)
    while not text.endswith(b"\n"):
        more = connection.recv(1 << 16)
        if not more:
            raise OSError("the request ended early")
        text += more
    return json.loads(text), files


def _run(request: dict, files: list[int]) -> int:
    """Take over environment, folder and files, and be a worker or a kernel."""
    import random

    import numpy
    import torch

    parent = os.getppid()
    die_with_parent(parent)
    for target, file in enumerate(files):
        os.dup2(file, target)
        os.close(file)
    os.environ.clear()
    os.environ.update(ADDED | request["environment"])
    os.chdir(request["cwd"])
    random.seed()  # forks must not all draw the same, as if somebody had seeded them
    numpy.random.seed()
    torch.default_generator.seed()
    return CHILDREN[request["kind"]](request["argument"], parent)


def _worker(folder: str, parent: int) -> int:
    from bpfree_common.running.seed import Seed

    os.environ["BPFREE_RUNNER"] = str(parent)
    seed = Seed()  # before anything is imported that a kernel would not have
    from bpfree_common.running import execute

    return execute.main(Path(folder), seed)


def _kernel(arguments: list[str], parent: int) -> int:
    from bpfree_common.running.seed import become_kernel

    become_kernel(arguments, parent)
    return 0


CHILDREN = {"worker": _worker, "kernel": _kernel}


def main(path: str) -> int:
    """Listen at `path`, import, say that it is ready on stdout, and serve."""
    die_with_parent(int(os.environ["BPFREE_RUNNER"]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runner stops us, not the terminal
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    preload()
    if not alone():
        return 1
    os.write(1, READY)
    Server(listener).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
