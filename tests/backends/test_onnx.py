"""What is particular to ONNX files and onnxruntime."""

import numpy as np
import pytest

from bladescan.base.errors import BackendError, DetectorError, UsageError
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.registry import get_plugin
from tests.backends.detectors import open_or_skip
from tests.tiny import crops

onnx = pytest.importorskip("onnx")


def test_onnx_has_no_other_precision(files):
    with pytest.raises(UsageError, match="file's own precision, not 'fp16'"):
        open_or_skip("onnx", files, precision="fp16")


class CrampedSession:
    """A session on a device with room for so many crops."""

    def __init__(self, session, room):
        self.session, self.room = session, room

    def run(self, outputs, feeds):
        if len(feeds["crops"]) > self.room:
            raise RuntimeError(
                "Non-zero status code\nFailed to allocate memory for requested buffer of size 9"
            )
        return self.session.run(outputs, feeds)


def test_onnx_halves_a_batch_that_the_device_has_no_room_for(files):
    x = crops(11)
    opened = open_or_skip("onnx", files)
    whole = opened.score(x)
    opened._session = CrampedSession(opened._session, 3)
    for values, wanted in zip(opened.score(x), whole, strict=True):
        np.testing.assert_array_equal(values, wanted)
    opened._session.room = 0
    with pytest.raises(BackendError, match="onnxruntime on cpu: Non-zero status code") as caught:
        opened.score(x)
    assert "\n" not in str(caught.value)


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
