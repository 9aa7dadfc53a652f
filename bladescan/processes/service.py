"""What a process of ours does, as data that both ends share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from bladescan.base.records import Reason

Settings = TypeVar("Settings")
Ready = TypeVar("Ready")
Request = TypeVar("Request")
Answer = TypeVar("Answer")


class Lost(NamedTuple):
    """Why a request got no answer.

    Attributes:
        reason: `Reason.TIMEOUT` or `Reason.DECODER_CRASHED`.
        how: what ended the process, a signal or an exit code; of a missed deadline how long it was given.
        seconds: that were spent on it.
    """

    reason: Reason
    how: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Service(Generic[Settings, Ready, Request, Answer]):
    """One kind of work for processes of its own. It is a constant of a module, found there by its name.

    Attributes:
        name: ``package.module:CONSTANT``, of this very object.
        begin: called once in each process, with what it is told at its start; gives the first message, and
            what is done with a request. What either raises on purpose is raised again where it was asked for;
            anything else ends the process.
        lost: the answer for a request that killed or outlasted its process.
        settings, ready, request, answer: types of what crosses the pipes, as msgspec takes them.
        called: such a process, in errors.
        most_growth: bytes by which a process may grow before a fresh one takes its place: native code may
            lose memory.
    """

    name: str
    begin: Callable[[Settings], tuple[Ready, Callable[[Request], Answer]]]
    lost: Callable[[Lost], Answer]
    settings: Any
    ready: Any
    request: Any
    answer: Any
    called: str = "a worker process"
    most_growth: int = 128 << 20
