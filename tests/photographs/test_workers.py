"""Real processes that really die and really hang."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from bladescan.base.errors import DataError
from bladescan.base.records import Reason
from bladescan.photographs.workers import WorkerPool
from tests import ROOT


def nothing():
    pass


def doubled_unless_three(item):
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * item


def doubled_or_asleep(item):
    if item == 3:
        time.sleep(300)
    return 2 * item


def refused(item):
    raise DataError(f"no {item}")


def answers(work, n_workers, items, timeout_s=120.0):
    with WorkerPool(work, nothing, n_workers, timeout_s) as pool:
        return [future.result() for future in [pool.submit(item) for item in items]]


def test_an_item_that_kills_its_process_costs_no_other_item():
    assert answers(doubled_unless_three, 2, range(6)) == [0, 2, 4, Reason.DECODER_CRASHED, 8, 10]


def test_an_item_that_hangs_costs_its_time_and_no_other_item():
    assert answers(doubled_or_asleep, 1, range(2, 5), timeout_s=3.0) == [4, Reason.TIMEOUT, 8]


def test_what_the_work_raises_is_raised_where_the_item_came_from():
    with pytest.raises(DataError, match="^no 7$"):
        answers(refused, 1, [7])


def test_what_the_beginning_raises_is_raised_too():
    with WorkerPool(doubled_unless_three, too_few, 1, 60.0) as pool, pytest.raises(DataError, match="begin"):
        pool.submit(1).result()


def too_few():
    raise DataError("cannot begin")


def test_a_pool_that_is_closed_leaves_no_process_behind():
    pool = WorkerPool(process_id, nothing, 1, 60.0)
    pid = pool.submit(None).result()
    assert alive(pid)
    pool.close()
    assert not alive(pid)


def test_processes_end_when_their_parent_is_killed(tmp_path):
    script = """
        from tests.photographs.test_workers import nothing, process_id
        from bladescan.photographs.workers import WorkerPool
        if __name__ == "__main__":
            pool = WorkerPool(process_id, nothing, 1, 60.0)
            print(pool.submit(None).result(), flush=True)
            input()
    """
    (tmp_path / "main.py").write_text(textwrap.dedent(script))
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, tmp_path / "main.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as parent:
        pid = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 30
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(pid)


kept = []


def hoard(megabytes):
    kept.append(b"x" * (megabytes << 20))
    return os.getpid()


def test_a_process_that_grows_is_replaced():
    first, second, third, fourth = answers(
        hoard, 1, [300, 300, 300, 1]
    )  # the first answer is where it begins
    assert first == second == third != fourth


def process_id(_):
    return os.getpid()


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
