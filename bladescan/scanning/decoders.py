"""The keeper of decoder processes: one request at a time each, a deadline, a fresh process after a death.

It never opens an image itself. A file that kills or hangs its process becomes a `Decoded` with a reason.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import msgspec

from bladescan.base.errors import BackendError
from bladescan.base.records import Cost, Reason
from bladescan.scanning.decoder_process import (
    Decoded,
    DecoderSettings,
    Failed,
    Ready,
    Request,
    packed,
    read_length,
)

START_TIMEOUT_S = 180.0
START_ATTEMPTS = 3
MOST_GROWTH = 128 << 20
"""Bytes by which a process may grow before a fresh one takes its place: native code may lose memory."""
_ANSWER = msgspec.msgpack.Decoder(Decoded | Ready | Failed)


class _Died(Exception):
    """The process ended, or closed its pipe, before it answered."""


class _Late(Exception):
    """The answer did not come in time."""


@contextmanager
def sigint_blocked() -> Iterator[None]:
    """Processes started meanwhile never see Ctrl-C; this one sees it afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def resident_bytes(pid: int) -> int:
    """Memory that a process holds; 0 where that cannot be told."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


class DecoderProcess:
    """One decoder process, started when first needed, after each death, and when it has grown too large.

    Not for two threads at once.
    """

    def __init__(self, settings: DecoderSettings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._bytes_at_start = 0
        self._closing = False

    def start(self) -> Ready:
        """Start the process and wait for its face finder.

        Raises:
            BackendError: it could not start, with its own word why.
        """
        for _ in range(START_ATTEMPTS):
            self._process = self._spawn()
            try:
                answer = _read(self._process, time.monotonic() + START_TIMEOUT_S)
            except (_Died, _Late):
                self.kill()
                if self._closing:
                    break
                continue
            if isinstance(answer, Ready):
                self._bytes_at_start = resident_bytes(self._process.pid)
                return answer
            self.kill()
            raise BackendError(answer.message if isinstance(answer, Failed) else "decoder out of step")
        raise BackendError("the decoder process does not start; see why with: bladescan doctor --debug")

    def decode(self, request: Request) -> Decoded:
        """Decode one image. A death is tried once more in a fresh process, a missed deadline is not."""
        started, last = time.monotonic(), _Died()
        for _ in range(2):
            try:
                return self._ask(request)
            except _Late:
                self.kill()
                limit = self._settings.timeout_s
                return _lost(Reason.TIMEOUT, f"not decoded within {limit:g} s", started)
            except _Died as exc:
                last = exc
                self.kill()
                if self._closing:
                    break
        return _lost(Reason.DECODER_CRASHED, f"the decoder process died ({last}) on it twice", started)

    def kill(self) -> None:
        """End the process at once. Doing it twice is fine."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                _close_quietly(stream)

    def close(self) -> None:
        """End the process for good, also while another thread waits for its answer."""
        self._closing = True
        process = self._process
        if process is not None:
            process.kill()

    def _ask(self, request: Request) -> Decoded:
        if self._process is None:
            self.start()
        assert self._process is not None
        process, deadline = self._process, time.monotonic() + self._settings.timeout_s
        _write(process, packed(request), deadline)
        answer = _read(process, deadline)
        if not isinstance(answer, Decoded):
            raise _Died("out of step")
        if resident_bytes(process.pid) - self._bytes_at_start > MOST_GROWTH:
            self.kill()
        return answer

    def _spawn(self) -> subprocess.Popen[bytes]:
        settings = msgspec.json.encode(self._settings).decode()
        # -P: the folder that is scanned from must not be able to supply modules.
        command = [sys.executable, "-P", "-m", "bladescan.scanning.decoder_process", settings]
        # Parallelism comes from several processes; OpenMP threads inside each would only fight.
        # Large pages where Linux gives them on request: a picture of 12 megapixels is 12,000 small ones.
        environment = {
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
        } | dict(os.environ)
        with sigint_blocked():  # until it ignores Ctrl-C by itself
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, bufsize=-1
            )
        assert process.stdin is not None
        os.set_blocking(process.stdin.fileno(), False)
        return process


def _read(process: subprocess.Popen[bytes], deadline: float) -> Decoded | Ready | Failed:
    body = _read_exactly(process, read_length(_read_exactly(process, 4, deadline)), deadline)
    try:
        answer: Decoded | Ready | Failed = _ANSWER.decode(body)
        return answer
    except msgspec.MsgspecError as exc:
        raise _Died("garbled answer") from exc


def _write(process: subprocess.Popen[bytes], message: bytearray, deadline: float) -> None:
    """Write past any Python buffering, until all is written or the deadline: an object outgrows the pipe."""
    assert process.stdin is not None
    descriptor, unwritten = process.stdin.fileno(), memoryview(message)
    room = select.poll()
    room.register(descriptor, select.POLLOUT)
    while unwritten:
        left = deadline - time.monotonic()
        if left <= 0 or not room.poll(left * 1000):
            raise _Late
        try:
            unwritten = unwritten[os.write(descriptor, unwritten) :]
        except OSError as exc:
            raise _Died(_how(process)) from exc


def _read_exactly(process: subprocess.Popen[bytes], n_bytes: int, deadline: float) -> bytes:
    """Read from the pipe's descriptor, past any Python buffering, until full or the deadline."""
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    ready = select.poll()
    ready.register(descriptor, select.POLLIN)
    parts: list[bytes] = []
    while n_bytes:
        left = deadline - time.monotonic()
        if left <= 0 or not ready.poll(left * 1000):
            raise _Late
        part = os.read(descriptor, min(n_bytes, 1 << 20))
        if not part:
            raise _Died(_how(process))
        parts.append(part)
        n_bytes -= len(part)
    return b"".join(parts)


def _lost(reason: Reason, detail: str, started: float) -> Decoded:
    return Decoded(reason=reason, detail=detail, cost=Cost(decode_s=time.monotonic() - started))


def _how(process: subprocess.Popen[bytes]) -> str:
    try:
        code = process.wait(timeout=1.0)
    except subprocess.TimeoutExpired:
        return "closed its pipe"
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _close_quietly(stream: object) -> None:
    try:
        stream.close()  # type: ignore[attr-defined]
    except OSError:
        pass  # bytes meant for a process that is gone


class DecoderPool:
    """``n`` decoder processes behind a queue.

    A thread waits on each process, so ``submit`` returns at once and the caller can score meanwhile.
    """

    def __init__(self, n: int, settings: DecoderSettings) -> None:
        self.settings = settings
        self._local = threading.local()
        self._processes: list[DecoderProcess] = []
        self._threads = ThreadPoolExecutor(n, thread_name_prefix="decoder")
        self.n = n

    def start(self) -> Ready:
        """Start one process now, so that a face finder that cannot be had is an error before the scan."""
        return self._threads.submit(lambda: self._mine().start()).result()

    def submit(self, request: Request) -> Future[Decoded]:
        """Queue one image."""
        return self._threads.submit(lambda: self._mine().decode(request))

    def close(self) -> None:
        """Drop what is queued and end every process."""
        for process in list(self._processes):
            process.close()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for process in self._processes:
            process.kill()

    def _mine(self) -> DecoderProcess:
        if not hasattr(self._local, "process"):
            self._local.process = DecoderProcess(self.settings)
            self._processes.append(self._local.process)
        mine: DecoderProcess = self._local.process
        return mine

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
