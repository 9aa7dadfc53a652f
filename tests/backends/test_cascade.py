"""What is particular to cascades: which part sees what, and what is told of parts that are not fit."""

import json
import shutil
import time

import msgspec
import numpy as np
import pytest
from bladescan_backends.cascade import CascadeBackend

from bladescan.base.errors import BackendError, DetectorError, UsageError
from bladescan.detectors.cascade import encode_cascade, read_cascade
from bladescan.detectors.parts import DetectorPart
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.registry import choose_plugin, get_plugin
from tests.backends.detectors import runs_ahead, tiny_cascade, tiny_rule
from tests.backends.test_contract import CONTRACT
from tests.tiny import crops

pytest.importorskip("onnx")
CPU = BackendSettings("cpu", threads=1)


def opened(path, **settings):
    return get_plugin("cascade").open(path, BackendSettings(**{"device": "cpu", "threads": 1, **settings}))


@pytest.fixture()
def folder(files, tmp_path):
    for name in ("d.onnx", "second.onnx", "d.cascade", "bare.onnx", "d.safetensors"):
        shutil.copy(files / name, tmp_path / name)
    return tmp_path


def changed(folder, **rule):
    """The cascade with other numbers."""
    cascade = read_cascade(folder / "d.cascade")
    cascade = msgspec.structs.replace(cascade, rule=msgspec.structs.replace(cascade.rule, **rule))
    (folder / "d.cascade").write_bytes(encode_cascade(cascade))
    return opened(folder / "d.cascade")


def test_the_second_part_sees_what_the_first_does_not_clear_and_nothing_else(folder):
    x, rule = crops(6), tiny_rule()
    first, second = (
        choose_plugin("auto", folder / name).open(folder / name, CPU).score(x).p_ai_generated
        for name in ("d.onnx", "second.onnx")
    )
    on = rule.goes_on(first)
    assert 0 < on.sum() < 6
    found = opened(folder / "d.cascade").score(x).p_ai_generated
    np.testing.assert_array_equal(found, rule.joined(first, second[on]))


def ahead(folder):
    """The cascade as it is on a CUDA device, but on the CPU: the runs of both parts in threads."""
    cascade = read_cascade(folder / "d.cascade")
    return CascadeBackend(cascade, *(runs_ahead(folder / name) for name in ("d.onnx", "second.onnx")))


@pytest.mark.parametrize("name", CONTRACT)
def test_the_contract_holds_where_both_parts_run_ahead(name, folder):
    backend = ahead(folder)
    CONTRACT[name](backend)
    backend.close()


def test_what_the_first_part_leaves_is_begun_by_whoever_asks_and_its_error_is_the_result(folder):
    x, backend = crops(6), ahead(folder)
    expected = opened(folder / "d.cascade").score(x)
    pending = backend.submit(x)
    started = time.monotonic()
    while not pending.done():
        assert time.monotonic() < started + 30
    np.testing.assert_array_equal(pending.result().p_ai_generated, expected.p_ai_generated)
    backend._parts[1].close()
    pending = backend.submit(x)
    while not pending.done():
        assert time.monotonic() < started + 30
    for _ in range(2):
        with pytest.raises(BackendError, match="the onnx backend is closed"):
            pending.result()
    backend.close()


def test_a_second_part_that_sees_no_crop_is_not_run(folder):
    backend = changed(folder, clear_below=1.0)
    backend._parts[1].close()  # which makes any use of it an error
    assert (backend.score(crops(3)).p_ai_generated > 0).all()
    assert backend.embed(crops(3)).shape == (3, 24)


def test_with_nothing_cleared_the_second_part_sees_all(folder):
    x = crops(3)
    rule = msgspec.structs.replace(tiny_rule(), clear_below=0.0)
    parts = [get_plugin("onnx").open(folder / name, CPU) for name in ("d.onnx", "second.onnx")]
    expected = rule.joined(*(part.score(x).p_ai_generated for part in parts))
    np.testing.assert_array_equal(changed(folder, clear_below=0.0).score(x).p_ai_generated, expected)


def test_parts_may_be_of_different_runtimes(folder):
    cascade = tiny_cascade(folder, ("d.safetensors", "second.onnx"))
    (folder / "mixed.cascade").write_bytes(encode_cascade(cascade))
    expected = opened(folder / "d.cascade").score(crops(4)).p_ai_generated
    np.testing.assert_allclose(
        opened(folder / "mixed.cascade").score(crops(4)).p_ai_generated, expected, atol=1e-3
    )


def test_parts_that_are_no_cascades_parts_are_one_line(folder):
    path = folder / "d.cascade"
    cascade = read_cascade(path)
    bare = tiny_cascade(folder, ("d.onnx", "bare.onnx"))
    path.write_bytes(encode_cascade(bare))
    with pytest.raises(DetectorError, match="^d.cascade: the detector 'tiny' has no binary head"):
        opened(path)
    path.write_bytes(encode_cascade(cascade))
    (folder / "second.onnx").write_bytes(b"x")
    with pytest.raises(DetectorError, match="second.onnx is another file"):
        opened(path)
    broken = msgspec.structs.replace(cascade, second=DetectorPart("second.onnx", _digest_of_x()))
    path.write_bytes(encode_cascade(broken))
    with pytest.raises(DetectorError, match="^second.onnx: not a complete ONNX model"):
        opened(path)


def _digest_of_x():
    import hashlib

    return hashlib.sha256(b"x").hexdigest()


def test_crops_cut_otherwise_than_its_parts_are_an_error(folder):
    path = folder / "d.cascade"
    fields = json.loads(path.read_bytes())
    fields["manifest"]["face_rule"]["scale"] = 2.0
    path.write_text(json.dumps(fields))
    with pytest.raises(DetectorError, match="look at different crops"):
        opened(path)


def test_what_a_cascade_cannot_do_is_told(folder):
    with pytest.raises(UsageError, match="its files' own precision, not 'bf16'"):
        opened(folder / "d.cascade", precision="bf16")
    for name in ("onnx", "openvino", "pytorch"):
        with pytest.raises(UsageError, match=f"d.cascade: the {name} backend opens .*use --backend cascade"):
            choose_plugin(name, folder / "d.cascade")
    assert choose_plugin("auto", folder / "d.cascade").name == "cascade"
