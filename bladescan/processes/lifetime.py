"""How a process of ours ends: with its parent, and not by Ctrl-C, which is its parent's to handle."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def sigint_blocked() -> Iterator[None]:
    """Keep Ctrl-C from processes that are started meanwhile; this one sees it afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with(parent: int) -> None:
    """End this process once another, which started it, is gone, however that went."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watch").start()


def settle(*, silent: bool) -> None:
    """Leave Ctrl-C to the parent, dump no core, and if ``silent`` let no library write to standard error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    if silent:
        os.dup2(nowhere, 2)  # native decoders chatter about broken files; each file's reason says it already
