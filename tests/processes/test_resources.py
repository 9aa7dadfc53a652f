import os

from bladescan.processes.resources import n_cores, resident_bytes


def test_memory_of_a_process_that_is_gone_is_nothing():
    assert resident_bytes(os.getpid()) > 1 << 20
    assert resident_bytes(2**22 + 1) == 0


def test_cores_are_those_that_this_process_may_use():
    assert 1 <= n_cores() <= len(os.sched_getaffinity(0))
