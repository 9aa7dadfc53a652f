"""The command in a process of its own that need not import what all of them do: one that has is forked.

An interpreter that has imported the command waits for requests. Each forks it, and the child goes on as
``python -m bladescan`` does: arguments, folder and streams are its own, and it ends as an interpreter does.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import bladescan.__main__ as command_module
from tests import ROOT

SCANNING = (
    *("joblib", "onnxruntime", "psutil", "typer._adapters"),
    *("bladescan.command.app", "bladescan.command.scan_report", "bladescan.scanning.job"),
    *("bladescan.sources.counting", "bladescan_backends._onnx_detector", "bladescan_backends.onnx"),
)
LEARN = ("evaluate", "export", "fit", "import", "train")
LEARNING = (*SCANNING, "torch", "sklearn.mixture", "bladescan.fitting.job")


class PreparedCommand:
    """Starts ``python -m bladescan`` by forking an interpreter that has imported ``modules``."""

    def __init__(self, modules: tuple[str, ...]) -> None:
        self._busy = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        code = f"from tests.prepared import serve; serve({theirs.fileno()}, {modules!r})"
        self._server = subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, env=environment(), pass_fds=[theirs.fileno()]
        )
        theirs.close()

    def run(
        self, arguments: list[str], cwd: Path, stdin: bytes, timeout: float
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the command; see `subprocess.run`."""
        with self._busy, contextlib.ExitStack() as stack:
            (in_, feed), (out, stdout), (err, stderr) = (os.pipe() for _ in range(3))
            request = json.dumps([arguments, str(cwd)]).encode()
            socket.send_fds(self._socket, [request], [in_, stdout, stderr])
            for descriptor in (in_, stdout, stderr):
                os.close(descriptor)
            said: list[bytes] = [b"", b""]
            threads = [
                threading.Thread(target=_feed, args=(feed, stdin)),
                threading.Thread(target=_drain, args=(out, said, 0)),
                threading.Thread(target=_drain, args=(err, said, 1)),
            ]
            for thread in threads:
                thread.start()
            pid = int(self._socket.recv(100))
            self._socket.settimeout(timeout)
            stack.callback(self._socket.settimeout, None)
            try:
                status = int(self._socket.recv(100))
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(arguments, timeout) from None
            for thread in threads:
                thread.join()
        return subprocess.CompletedProcess(arguments, os.waitstatus_to_exitcode(status), *said)

    def close(self) -> None:
        """End the interpreter that waits."""
        self._socket.close()
        self._server.wait()


def environment() -> dict[str, str]:
    """The environment of the commands that tests start."""
    ours = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    return ours | {"COLUMNS": "100"}


def serve(descriptor: int, modules: tuple[str, ...]) -> None:
    """Import, then fork for each request until there is none; returns in the children too."""
    for module in modules:
        importlib.import_module(module)
    with socket.socket(fileno=descriptor) as requests:
        while True:
            message, descriptors, _, _ = socket.recv_fds(requests, 1 << 20, 3)
            if not message:
                return
            pid = os.fork()
            if pid == 0:
                break
            for one in descriptors:
                os.close(one)
            requests.send(str(pid).encode())
            requests.send(str(os.waitpid(pid, 0)[1]).encode())
    arguments, cwd = json.loads(message)
    for target, one in enumerate(descriptors):
        os.dup2(one, target)
        os.close(one)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.chdir(cwd)
    sys.argv = [command_module.__file__, *arguments]
    command_module.main()


def _feed(descriptor: int, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError), open(descriptor, "wb") as pipe:
        pipe.write(data)


def _drain(descriptor: int, said: list[bytes], place: int) -> None:
    with open(descriptor, "rb") as pipe:
        said[place] = pipe.read()
