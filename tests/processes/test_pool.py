"""Real processes that really die and really hang."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import msgspec
import pytest

from bladescan.base.errors import BackendError, DataError, MissingDependencyError
from bladescan.base.records import Reason
from bladescan.processes.lifetime import sigint_blocked
from bladescan.processes.pool import WorkerPool
from bladescan.processes.service import Lost, Service
from bladescan.processes.worker import WorkerProcess
from tests import ROOT


class Order(msgspec.Struct):
    """What a process is told at its start: what becomes of an item."""

    way: str


def doubled(item):
    return 2 * item


def killed_by_three(item):
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * item


def stopped_by_three(item):
    if item == 3:
        os.kill(os.getpid(), signal.SIGSTOP)
    return 2 * item


def asleep_with_three(item):
    if item == 3:
        time.sleep(300)
    return 2 * item


def refused(item):
    raise DataError(f"no {item}")


def broken(item):
    raise ZeroDivisionError


def process_id(item):
    return os.getpid()


kept = []


def hoard(megabytes):
    kept.append(b"x" * (megabytes << 20))
    return os.getpid()


def begin(order):
    if order.way == "data":
        raise DataError("cannot begin")
    if order.way == "dependency":
        raise MissingDependencyError("doubling", "two", "pip install two")
    if order.way == "dead":
        os._exit(3)
    os.write(1, b"chatter")
    return "ready", globals()[order.way]


WORK = Service(
    name="tests.processes.test_pool:WORK",
    begin=begin,
    lost=lambda lost: lost,
    settings=Order,
    ready=str,
    request=int,
    answer=int,
    called="the doubler",
    most_growth=512 << 20,
)


@pytest.fixture(autouse=True)
def found(monkeypatch):
    """The processes find this module."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def process():
    """A keeper whose process is made by the way of working and the deadline."""
    made = []

    def make(work, timeout_s=120.0):
        made.append(WorkerProcess(WORK, Order(work.__name__), timeout_s))
        return made[-1]

    yield make
    for one in made:
        one.kill()


def answers(work, n_workers, items, timeout_s=120.0):
    with WorkerPool(n_workers, WORK, Order(work.__name__), timeout_s) as pool:
        return [future.result() for future in [pool.submit(item) for item in items]]


def test_an_item_that_kills_its_process_costs_no_other_item():
    found = answers(killed_by_three, 2, range(6))
    assert found[:3] + found[4:] == [0, 2, 4, 8, 10]
    assert found[3][:2] == (Reason.DECODER_CRASHED, "SIGKILL")


def test_an_item_that_hangs_costs_its_time_and_no_other_item():
    before, lost, after = answers(asleep_with_three, 1, range(2, 5), timeout_s=3.0)
    assert (before, after) == (4, 8)
    assert lost[:2] == (Reason.TIMEOUT, "3 s") and lost.seconds >= 3


def test_a_process_that_is_stopped_by_its_item_is_ended(process):
    one = process(stopped_by_three, timeout_s=1.0)
    assert isinstance(one.ask(3), Lost)
    assert one.process is None
    assert one.ask(4) == 8


def test_a_process_killed_between_items_is_replaced_and_no_item_is_lost(process):
    one = process(doubled)
    for item in range(3):
        assert one.ask(item) == 2 * item
        os.kill(one.process.pid, signal.SIGKILL)


def test_what_the_work_raises_is_raised_where_the_item_came_from_and_the_process_stays(process):
    one = process(refused)
    with pytest.raises(DataError, match="^no 7$"):
        one.ask(7)
    before = one.process.pid
    with pytest.raises(DataError, match="^no 8$"):
        one.ask(8)
    assert one.process.pid == before


def test_a_mistake_in_the_work_costs_its_item_alone():
    (lost,) = answers(broken, 1, [1])
    assert lost[:2] == (Reason.DECODER_CRASHED, "exit code 1")


def test_what_the_beginning_raises_is_raised_too():
    with WorkerPool(1, WORK, Order("data"), 60.0) as pool:
        with pytest.raises(DataError, match=r"^cannot begin$"):
            pool.start()
        with pytest.raises(DataError, match=r"^cannot begin$"):
            pool.submit(1).result()


def test_an_error_that_is_made_of_parts_comes_over_whole():
    message = "^doubling needs two, which is not installed: pip install two$"
    pool = WorkerPool(1, WORK, Order("dependency"), 60.0)
    with pool, pytest.raises(MissingDependencyError, match=message):
        pool.start()


def test_a_process_that_dies_at_each_start_is_an_error():
    with (
        WorkerPool(1, WORK, Order("dead"), 60.0) as pool,
        pytest.raises(BackendError, match="^the doubler does"),
    ):
        pool.start()


def test_a_pool_answers_every_item_whatever_dies():
    with WorkerPool(2, WORK, Order("doubled"), 120.0) as pool:
        assert pool.start() == "ready"
        futures = [pool.submit(item) for item in range(200)]
        for one in list(pool.processes):
            if one.process is not None:
                os.kill(one.process.pid, signal.SIGKILL)
        assert [future.result() for future in futures] == [2 * item for item in range(200)]


def test_a_pool_that_is_closed_leaves_no_process_behind():
    pool = WorkerPool(1, WORK, Order("process_id"), 60.0)
    pid = pool.submit(0).result()
    assert alive(pid)
    pool.close()
    assert not alive(pid)


def test_closing_a_pool_ends_busy_processes_too_and_drops_what_is_queued():
    pool = WorkerPool(1, WORK, Order("asleep_with_three"), 60.0)
    pool.start()
    busy, queued = pool.submit(3), pool.submit(4)
    pid = pool.processes[0].process.pid
    time.sleep(0.2)
    pool.close()
    assert not alive(pid)
    assert busy.result().how == "SIGKILL"
    assert queued.cancelled()


def test_a_process_that_grows_is_replaced():
    first, second, third = answers(hoard, 1, [300, 300, 1])
    assert first == second != third


def test_a_process_ends_by_itself_when_its_pipe_closes(process):
    one = process(doubled)
    one.ask(1)
    one.process.stdin.close()
    assert one.process.wait(timeout=20) == 0


def test_processes_end_when_their_parent_is_killed(tmp_path):
    script = """
        from tests.processes.test_pool import WORK, Order
        from bladescan.processes.pool import WorkerPool
        pool = WorkerPool(1, WORK, Order("process_id"), 60.0)
        print(pool.submit(0).result(), flush=True)
        input()
    """
    (tmp_path / "main.py").write_text(textwrap.dedent(script))
    command = [sys.executable, tmp_path / "main.py"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        pid = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 30
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(pid)


def test_a_folder_with_a_module_of_our_name_cannot_supply_code(process, tmp_path, monkeypatch):
    (tmp_path / "msgspec.py").write_text("raise SystemExit('owned')")
    (tmp_path / "bladescan.py").write_text("raise SystemExit('owned')")
    monkeypatch.chdir(tmp_path)
    assert process(doubled).ask(1) == 2


def test_ctrl_c_is_not_seen_by_what_starts_meanwhile():
    with sigint_blocked():
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_process_may_be_closed_while_another_thread_waits_for_it(process):
    one = process(asleep_with_three)
    one.start()
    threading.Timer(0.2, one.close).start()
    assert one.ask(3).how == "SIGKILL"
    with pytest.raises(BackendError, match="does not start"):
        one.start()


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
