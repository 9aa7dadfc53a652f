"""Errors and answers that cross a pipe."""

import msgspec
import pytest

from bladescan.base import errors
from bladescan.processes.messages import HEADER, Failed, failed, packed, raised
from bladescan.runtimes.onnx_session import UnloadableGraphError


@pytest.mark.parametrize(
    "error",
    [
        errors.UnknownNameError("backend", "onxn", ["onnx"]),
        errors.MissingDependencyError("fit", "torch", "pip install 'bladescan[train]'"),
        errors.DataError("too few"),
    ],
)
def test_an_error_comes_over_as_it_was(error):
    message = packed(failed(error))
    n_bytes, is_failed = HEADER.unpack(message[: HEADER.size])
    assert (n_bytes, is_failed) == (len(message) - HEADER.size, True)
    copy = raised(msgspec.msgpack.decode(message[HEADER.size :], type=Failed))
    assert (type(copy), str(copy)) == (type(error), str(error))


def test_an_error_that_this_end_does_not_know_comes_over_as_its_text():
    copy = raised(failed(UnloadableGraphError("no graph")))
    assert (type(copy), str(copy)) == (errors.BackendError, "no graph")


def test_an_answer_is_no_error():
    assert HEADER.unpack(packed([1, 2])[: HEADER.size]) == (3, False)
