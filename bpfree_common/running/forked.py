"""Asking the warm process (`warm`) for forks, and following them like a `Popen`."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

#: Where the warm process listens; kernels that others start find it here.
ADDRESS = "BPFREE_WARM"
START_UP = 120  # seconds after which the warm process is given up


def possible() -> bool:
    """Whether kernels may be forked here; `BPFREE_FORK=0` says no.

    Only on Linux, and not where notebooks will use a GPU: a forked process cannot use
    CUDA if anything before the fork has.
    """
    gpu = Path("/dev/nvidiactl").exists() and os.environ.get("BPFREE_DEVICE") != "cpu"
    return sys.platform == "linux" and not gpu and os.environ.get("BPFREE_FORK") != "0"


class Forked:
    """A child of the warm process, with the face of `subprocess.Popen`.

    kind, argument: see `warm`. files: its stdin, stdout and stderr. Raises OSError when
    the warm process does not answer.
    """

    def __init__(
        self, address: str, kind: str, argument, environment: dict, files: list[int]
    ):
        self.returncode: int | None = None
        self._answers = b""
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.settimeout(START_UP)
        self._connection.connect(address)
        request = {"kind": kind, "argument": argument, "environment": environment}
        text = json.dumps(request | {"cwd": str(Path.cwd())}).encode() + b"\n"
        sent = socket.send_fds(self._connection, [text], files)
        self._connection.sendall(text[sent:])
        while b"\n" not in self._answers:
            self._listen()
            if self.returncode is not None:
                raise ConnectionError("the warm process has ended")
        self.pid = int(self._answers.split()[0])

    def poll(self) -> int | None:
        """The exit code; None while it runs; that of a kill if the server is gone."""
        while self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            self._listen()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once it has ended. Raises subprocess.TimeoutExpired."""
        while self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("fork", timeout)
            self._listen()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it runs."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _listen(self) -> None:
        try:
            more = self._connection.recv(4096)
        except ConnectionError:
            more = b""
        self._answers += more
        numbers = self._answers.split(b"\n")[:-1]
        if len(numbers) == 2 or not more:
            self.returncode = int(numbers[1]) if len(numbers) == 2 else -signal.SIGKILL
            self._connection.close()


class Warm:
    """The warm process of one run, started at once; `stop` it at the end."""

    def __init__(self, folder: Path, environment: dict):
        """Start importing; the socket will lie in `folder`, whose path must be short."""
        self.address = str(folder / "warm")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bpfree_common.running.warm", self.address],
            env=environment | {"BPFREE_RUNNER": str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._ready: bool | None = None

    def ready(self) -> bool:
        """Wait until it has imported everything; False if it failed or has ended."""
        if self._ready is None:
            answered, _, _ = select.select([self._process.stdout], [], [], START_UP)
            line = os.read(self._process.stdout.fileno(), 64) if answered else b""
            self._ready = line.startswith(b"ready")
        return self._ready and self._process.poll() is None

    def stop(self) -> None:
        """End it, and with it every fork."""
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
