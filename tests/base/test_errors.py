import pickle

import pytest

from bladescan.base import errors
from bladescan.base.records import Reason


def test_an_unknown_name_suggests_the_nearest_and_lists_all():
    error = errors.UnknownNameError("backend", "onxn", ["pytorch", "onnx"])
    assert str(error) == "unknown backend 'onxn'. Did you mean 'onnx'? Available: onnx, pytorch."


def test_an_unknown_name_with_nothing_near_suggests_nothing():
    assert str(errors.UnknownNameError("head", "zzz", [])) == "unknown head 'zzz'. Available: none."


@pytest.mark.parametrize(
    "error",
    [
        errors.UnknownNameError("backend", "onxn", ["onnx"]),
        errors.MissingDependencyError("fit", "torch", "pip install 'bladescan[train]'"),
        errors.ImageError(Reason.TRUNCATED, "12 of 40 bytes"),
        errors.OutputError("disk full"),
    ],
)
def test_every_error_crosses_a_process_border_unchanged(error):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)


def test_every_error_is_a_bladescan_error():
    found = [x for x in vars(errors).values() if isinstance(x, type) and issubclass(x, Exception)]
    assert len(found) > 8
    assert all(issubclass(x, errors.BladescanError) for x in found)


@pytest.mark.parametrize(
    ("exc", "line"),
    [
        (ValueError("\n one\ntwo"), "one"),
        (ValueError(""), "ValueError"),
        (OSError(2, "gone"), "[Errno 2] gone"),
    ],
)
def test_a_foreign_exception_is_told_in_one_line(exc, line):
    assert errors.first_line(exc) == line


def test_an_import_that_failed_says_whether_the_package_is_missing_or_broken():
    missing = errors.import_failed(
        ModuleNotFoundError("no", name="torch.x"), "fit", "torch", "pip install it"
    )
    assert str(missing) == "fit needs torch.x, which is not installed: pip install it"
    broken = errors.import_failed(ImportError("libx.so: cannot map\nmore"), "fit", "torch", "pip install it")
    assert str(broken) == "fit needs torch, which is installed but cannot be loaded: libx.so: cannot map"
