"""One process and its keeper: a request at a time, a deadline, a fresh process after a death."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from typing import Any, Generic

import msgspec

from bladescan.base.errors import BackendError
from bladescan.base.logs import wants_debug
from bladescan.base.records import Reason
from bladescan.processes.child import DEBUG
from bladescan.processes.deadline import Deadline
from bladescan.processes.lifetime import sigint_blocked
from bladescan.processes.messages import HEADER, Failed, packed, raised
from bladescan.processes.resources import resident_bytes
from bladescan.processes.service import Answer, Lost, Ready, Request, Service, Settings

START_TIMEOUT_S = 180.0
START_ATTEMPTS = 3


class _Died(Exception):
    """The process ended, or closed its pipe, before it answered."""


class _Late(Exception):
    """The answer did not come in time."""


class WorkerProcess(Generic[Settings, Ready, Request, Answer]):
    """One process, started when first needed, after each death, and when it has grown too large.

    Not for two threads at once.

    Args:
        service: what it does.
        settings: what it is told at its start.
        timeout_s: longest time for one request, not counting time in which this process was suspended.
    """

    def __init__(
        self, service: Service[Settings, Ready, Request, Answer], settings: Settings, timeout_s: float
    ) -> None:
        self._service, self._settings, self._timeout_s = service, settings, timeout_s
        self._ready = msgspec.msgpack.Decoder(service.ready)
        self._answer = msgspec.msgpack.Decoder(service.answer)
        self.process: subprocess.Popen[bytes] | None = None
        self._bytes_at_start = 0
        self._closing = False

    def start(self) -> Ready:
        """Start the process and wait until its work has begun.

        Raises:
            BladescanError: it could not begin, with its own word why.
        """
        for _ in range(START_ATTEMPTS):
            if self._closing:
                break
            self.process = self._spawn()
            try:
                ready: Ready = _read(self.process, self._ready, Deadline(START_TIMEOUT_S))
            except (_Died, _Late):
                self.kill()
                continue
            except BaseException:
                self.kill()
                raise
            self._bytes_at_start = resident_bytes(self.process.pid)
            return ready
        raise BackendError(f"{self._service.called} does not start; see why with: bladescan doctor --debug")

    def ask(self, request: Request) -> Answer:
        """Hand over one request and wait for its answer.

        A death is tried once more in a fresh process, a missed deadline is not; then the answer is the
        service's own for what was lost.

        Raises:
            BladescanError: the work raised it.
        """
        started, last = time.monotonic(), _Died()
        for _ in range(2):
            try:
                return self._ask(request)
            except _Late:
                self.kill()
                return self._lost(Reason.TIMEOUT, f"{self._timeout_s:g} s", started)
            except _Died as exc:
                last = exc
                self.kill()
                if self._closing:
                    break
        return self._lost(Reason.DECODER_CRASHED, str(last), started)

    def kill(self) -> None:
        """End the process at once. Doing it twice is fine."""
        process, self.process = self.process, None
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
        process = self.process
        if process is not None:
            process.kill()

    def _ask(self, request: Request) -> Answer:
        if self.process is None:
            self.start()
        assert self.process is not None
        process, deadline = self.process, Deadline(self._timeout_s)
        _write(process, packed(request), deadline)
        answer: Answer = _read(process, self._answer, deadline)
        if resident_bytes(process.pid) - self._bytes_at_start > self._service.most_growth:
            self.kill()
        return answer

    def _lost(self, reason: Reason, how: str, started: float) -> Answer:
        return self._service.lost(Lost(reason, how, time.monotonic() - started))

    def _spawn(self) -> subprocess.Popen[bytes]:
        told = [self._service.name, msgspec.json.encode(self._settings).decode(), str(self._timeout_s)]
        told += [DEBUG] if wants_debug() else []
        # -P: the folder that is worked in must not be able to supply modules.
        command = [sys.executable, "-P", "-m", "bladescan.processes.child", *told]
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


def _read(process: subprocess.Popen[bytes], decoder: msgspec.msgpack.Decoder[Any], deadline: Deadline) -> Any:
    """Receive the next message; what the process raised is raised here."""
    n_bytes, is_failed = HEADER.unpack(_read_exactly(process, HEADER.size, deadline))
    body = _read_exactly(process, n_bytes, deadline)
    try:
        answer = msgspec.msgpack.decode(body, type=Failed) if is_failed else decoder.decode(body)
        failure = raised(answer) if is_failed else None
    except (msgspec.MsgspecError, KeyError, TypeError) as exc:
        raise _Died("garbled answer") from exc
    if failure is not None:
        raise failure
    return answer


def _write(process: subprocess.Popen[bytes], message: bytearray, deadline: Deadline) -> None:
    """Write past any Python buffering, until all is written or the deadline: an object outgrows the pipe."""
    assert process.stdin is not None
    descriptor, unwritten = process.stdin.fileno(), memoryview(message)
    room = select.poll()
    room.register(descriptor, select.POLLOUT)
    while unwritten:
        if not deadline.poll(room):
            raise _Late
        try:
            unwritten = unwritten[os.write(descriptor, unwritten) :]
        except OSError as exc:
            raise _Died(_how(process)) from exc


def _read_exactly(process: subprocess.Popen[bytes], n_bytes: int, deadline: Deadline) -> bytes:
    """Read from the pipe's descriptor, past any Python buffering, until full or the deadline."""
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    ready = select.poll()
    ready.register(descriptor, select.POLLIN)
    parts: list[bytes] = []
    while n_bytes:
        if not deadline.poll(ready):
            raise _Late
        part = os.read(descriptor, min(n_bytes, 1 << 20))
        if not part:
            raise _Died(_how(process))
        parts.append(part)
        n_bytes -= len(part)
    return b"".join(parts)


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
