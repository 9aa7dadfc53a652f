"""The process's end: it begins the work that it is named, and answers requests until its pipe closes."""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any, BinaryIO

import msgspec

from bladescan.base.errors import BladescanError
from bladescan.processes.lifetime import settle
from bladescan.processes.messages import HEADER, failed, write_message
from bladescan.processes.service import Service

WATCHDOG_GRACE_S = 5.0
DEBUG = "--debug"
"""The flag of a process whose libraries may write to standard error."""


def serve(
    service: Service[Any, Any, Any, Any],
    settings: Any,
    timeout_s: float,
    requests: BinaryIO,
    answers: BinaryIO,
) -> None:
    """Answer requests until the pipe closes; a first message says whether the work could begin."""
    try:
        ready, answer = service.begin(settings)
    except BladescanError as exc:
        write_message(answers, failed(exc))
        return
    write_message(answers, ready)
    with open(os.devnull, "w") as nowhere:
        for request in _requests(requests, service.request):
            # Should the parent be gone, or stuck, a hang in native code still ends here.
            faulthandler.dump_traceback_later(timeout_s + WATCHDOG_GRACE_S, exit=True, file=nowhere)
            try:
                write_message(answers, answer(request))
            except BladescanError as exc:
                write_message(answers, failed(exc))
            faulthandler.cancel_dump_traceback_later()


def _requests(stream: BinaryIO, kind: Any) -> Iterator[Any]:
    decoder = msgspec.msgpack.Decoder(kind)
    while header := stream.read(HEADER.size):
        yield decoder.decode(stream.read(HEADER.unpack(header)[0]))


def main() -> None:
    """Take from the arguments: the name of the work, its settings as JSON, its deadline in seconds, flags."""
    answers = os.fdopen(os.dup(1), "wb")
    name, settings, timeout_s, *flags = sys.argv[1:]
    settle(silent=DEBUG not in flags)
    module, _, constant = name.partition(":")
    service = getattr(import_module(module), constant)
    told = msgspec.json.decode(settings, type=service.settings)
    serve(service, told, float(timeout_s), sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
