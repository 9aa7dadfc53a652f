"""What is particular to ONNX files and onnxruntime."""

import threading

import numpy as np
import pytest
from bladescan_backends import _onnx_runs

from bladescan.base.errors import BackendError, DetectorError, UsageError
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.registry import get_plugin
from tests.backends.detectors import open_or_skip, runs_ahead, there
from tests.backends.test_contract import CONTRACT
from tests.tiny import crops

onnx = pytest.importorskip("onnx")


def test_onnx_has_no_other_precision(files):
    with pytest.raises(UsageError, match="file's own precision, not 'fp16'"):
        open_or_skip("onnx", files, precision="fp16")


def ahead(files):
    return runs_ahead(files / "d.onnx")


@pytest.fixture(params=["at once", "ahead"])
def backend(request, files):
    opened = ahead(files) if request.param == "ahead" else open_or_skip("onnx", files)
    yield opened
    opened.close()


@pytest.mark.parametrize("name", CONTRACT)
def test_the_contract_holds_for_bound_crops_and_runs_in_a_thread(name, files):
    opened = ahead(files)
    CONTRACT[name](opened)
    opened.close()


def test_bound_runs_give_the_bits_of_plain_ones_for_every_batch(files):
    x = crops(33)
    plain, bound = open_or_skip("onnx", files), ahead(files)
    bound._runs.most = 5  # more runs than lie on the device at a time
    for n in (33, 1, 2, 11):
        for values, wanted in zip(there(bound.score(x[:n])), there(plain.score(x[:n])), strict=True):
            np.testing.assert_array_equal(values, wanted)


class CrampedSession:
    """A session on a device with room for so many crops."""

    def __init__(self, session, room):
        self.session, self.room = session, room

    def check(self, n):
        if n > self.room:
            raise RuntimeError(
                "Non-zero status code\nFailed to allocate memory for requested buffer of size 9"
            )

    def run(self, outputs, feeds):
        self.check(len(feeds["crops"]))
        return self.session.run(outputs, feeds)

    def io_binding(self):
        binding = self.session.io_binding()
        bind = binding.bind_input

        def bind_input(name, kind, index, dtype, shape, address):
            self.check(shape[0])
            bind(name, kind, index, dtype, shape, address)

        binding.bind_input = bind_input
        return binding

    def run_with_iobinding(self, binding):
        self.session.run_with_iobinding(binding)


def test_onnx_halves_a_batch_that_the_device_has_no_room_for(backend):
    x = crops(11)
    whole = backend.score(x)
    backend._runs._session = CrampedSession(backend._runs._session, 3)
    for values, wanted in zip(backend.score(x), whole, strict=True):
        np.testing.assert_array_equal(values, wanted)
    backend._runs._session.room = 0
    with pytest.raises(BackendError, match="onnxruntime on cpu: Non-zero status code") as caught:
        backend.score(x)
    assert "\n" not in str(caught.value)


def test_a_batch_that_the_device_has_no_room_to_hold_is_halved(files, monkeypatch):
    x, backend = crops(11), ahead(files)
    whole = backend.score(x)
    lay = _onnx_runs._lay

    def cramped(part, place):
        if len(part) > 3:
            raise RuntimeError("CUDA failure 2: out of memory")
        return lay(part, place)

    monkeypatch.setattr(_onnx_runs, "_lay", cramped)
    for values, wanted in zip(backend.score(x), whole, strict=True):
        np.testing.assert_array_equal(values, wanted)
    assert backend._runs.most < 4


class HeldSession(CrampedSession):
    """A session whose runs wait until they may go on, or fail."""

    def __init__(self, session):
        super().__init__(session, 4096)
        self.may, self.fail = threading.Semaphore(0), False

    def run_with_iobinding(self, binding):
        assert self.may.acquire(timeout=30)
        if self.fail:
            raise RuntimeError("CUDA failure 700: an illegal memory access was encountered\nmore")
        self.session.run_with_iobinding(binding)


@pytest.fixture
def held(files):
    """A backend on a device whose runs are held back."""
    backend = ahead(files)
    session = backend._runs._session = HeldSession(backend._runs._session)
    yield backend
    session.may.release(100)
    backend.close()


def test_the_next_batch_is_handed_in_while_one_is_computed(held):
    x = crops(6)
    first, second = held.submit(x[:3]), held.submit(x[3:])
    assert not first.done() and not second.done()
    held._runs._session.may.release()
    expected = first.result()
    assert first.done() and not second.done()  # one after the other, in the order of the calls
    held._runs._session.may.release()
    assert abs(second.result().embedding - expected.embedding).max() > 0


def test_what_fails_under_way_is_told_when_asked_for_and_nothing_else_is_lost(held):
    x = crops(4)
    session = held._runs._session
    good, bad = held.submit(x[:2]), held.submit(x[2:])
    session.may.release()
    good.result()
    session.fail = True
    session.may.release()
    for _ in range(2):
        with pytest.raises(BackendError, match="CUDA failure 700: an illegal memory") as caught:
            bad.result()
        assert "\n" not in str(caught.value)
    session.fail = False
    session.may.release()
    np.testing.assert_array_equal(held.score(x[:2]).embedding, good.result().embedding)


def test_closing_waits_for_the_run_under_way_and_loses_the_next(held):
    x = crops(4)
    first, second = held.submit(x[:2]), held.submit(x[2:])
    threading.Timer(0.2, held._runs._session.may.release).start()
    held.close()
    held.close()
    assert first.result().embedding.shape[0] == 2
    with pytest.raises(BackendError, match="closed before this batch was computed"):
        second.result()


def test_nothing_that_onnxruntime_prints_comes_among_the_verdicts(files, monkeypatch, capsys):
    import onnxruntime

    class Talkative(onnxruntime.InferenceSession):
        """As it is where CUDA cannot start."""

        def __init__(self, *arguments, **options):
            print("EP Error CUDA failure 100: no CUDA-capable device is detected")
            super().__init__(*arguments, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Talkative)
    open_or_skip("onnx", files).close()
    assert capsys.readouterr().out == ""


def resaved(files, tmp_path, change):
    model = onnx.load(files / "d.onnx")
    change(model)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    return tmp_path / "m.onnx"


def without_manifest(model):
    del model.metadata_props[:]


def with_external_data(model):
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/passwd")


def with_hidden_external_data(model):
    tensor = onnx.TensorProto(dims=[1], data_type=1, data_location=onnx.TensorProto.EXTERNAL)
    inner = onnx.helper.make_graph([], "inner", [], [], initializer=[tensor])
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("body", inner))


def with_custom_operator(model):
    model.opset_import.append(onnx.helper.make_opsetid("evil.ops", 1))


def with_another_input(model):
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 100


def with_unknown_operator(model):
    model.graph.node[0].op_type = "NoSuchOperator"


def without_an_output(model):
    del model.graph.output[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_manifest, "not a bladescan detector"),
        (with_external_data, "refers to data in other files"),
        (with_hidden_external_data, "refers to data in other files"),
        (with_custom_operator, "custom operators of 'evil.ops'"),
        (with_another_input, "expected one input crops|cannot load it"),
        (with_unknown_operator, "cannot load it"),
        (without_an_output, "expected outputs"),
    ],
)
@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_onnx_files_that_are_no_detector_get_one_line(name, files, tmp_path, capfd, change, message):
    if get_plugin(name).status().version is None:
        pytest.skip(f"{name} is not installed")
    with pytest.raises(DetectorError, match=f"^m.onnx: .*({message})") as caught:
        get_plugin(name).open(resaved(files, tmp_path, change), BackendSettings(device="cpu"))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_onnx_file_is_told(files, tmp_path, share):
    data = (files / "d.onnx").read_bytes()
    (tmp_path / "t.onnx").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DetectorError, match="^t.onnx: not a complete ONNX model"):
        get_plugin("onnx").open(tmp_path / "t.onnx", BackendSettings(device="cpu"))
