"""A process that is suspended and woken: what it waits for is not late because of that."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time

import msgspec
import pytest

from bladescan.processes.deadline import Deadline
from bladescan.processes.service import Service
from bladescan.processes.worker import WorkerProcess
from tests import ROOT


class Pause(msgspec.Struct):
    """What each item takes.

    Attributes:
        seconds: of sleep.
    """

    seconds: float


def begin(pause):
    def work(item):
        for _ in range(20):  # in parts: a single sleep would be over with the suspension
            time.sleep(pause.seconds / 20)
        return 2 * item

    return "ready", work


SLOW = Service(
    name="tests.processes.test_deadline:SLOW",
    begin=begin,
    lost=lambda lost: lost.reason.value,
    settings=Pause,
    ready=str,
    request=int,
    answer=int,
)


def ask_slowly(seconds: float, timeout_s: float) -> None:
    """Start a process, say so, ask it, and print the answer."""
    process = WorkerProcess(SLOW, Pause(seconds), timeout_s)
    process.start()
    print("asking", flush=True)
    print(process.ask(3), flush=True)
    process.kill()


@pytest.mark.parametrize("whole_group", [True, False], ids=["as-ctrl-z-does", "the-parent-alone"])
def test_what_was_asked_before_a_suspension_is_answered_after_it(whole_group):
    code = "from tests.processes.test_deadline import ask_slowly; ask_slowly(0.8, 1.6)"
    asking = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    assert asking.stdout is not None
    try:
        assert asking.stdout.readline() == b"asking\n"
        time.sleep(0.2)
        signal_to = os.killpg if whole_group else os.kill
        signal_to(asking.pid, signal.SIGSTOP)  # SIGTSTP means nothing without a terminal
        time.sleep(8)  # longer than the deadline, and than the child's own watchdog
        signal_to(asking.pid, signal.SIGCONT)
        assert asking.stdout.readline() == b"6\n"
        assert asking.wait(60) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(asking.pid, signal.SIGKILL)
        asking.wait()
        asking.stdout.close()


def test_a_deadline_counts_no_more_than_it_was_to_wait():
    deadline = Deadline(10.0)
    deadline.count(1.0, 3600.0)
    assert deadline.left == 9.0
    deadline.count(1.0, 0.25)
    deadline.count(1.0, 1.5)  # a busy machine
    assert deadline.left == 7.25
    for _ in range(20):
        deadline.count(1.0, 1.0)
    assert deadline.left <= 0 and deadline.next_tick() == 0


def test_a_descriptor_is_waited_for_until_the_deadline_and_no_longer():
    reader, writer = os.pipe()
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    try:
        assert not Deadline(0.2).poll(poll)
        assert not Deadline(0.0).poll(poll)
        os.write(writer, b"x")
        assert Deadline(0.0).poll(poll) and Deadline(5.0).poll(poll)
    finally:
        os.close(reader)
        os.close(writer)
