"""The one way into onnxruntime."""

import numpy as np
import pytest

from bladescan.base.errors import BackendError
from bladescan.runtimes.onnx_session import UnloadableGraphError, open_session

onnx = pytest.importorskip("onnx")


def doubling():
    """``y = x + x`` as an ONNX model."""
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n"]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Add", ["x", "x"], ["y"])], "doubling", [x], [y])
    opset = onnx.helper.make_opsetid("", 20)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString()


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_a_graph_is_run_on_the_cpu_from_bytes_or_from_a_file(tmp_path, threads):
    path = tmp_path / "doubling.onnx"
    path.write_bytes(doubling())
    for graph in (doubling(), path):
        session = open_session(graph, threads=threads)
        assert session.get_providers() == ["CPUExecutionProvider"]
        np.testing.assert_array_equal(session.run(["y"], {"x": np.float32([1, 2])})[0], [2, 4])


@pytest.mark.parametrize("threads", [1, 2])
def test_a_session_has_the_threads_asked_for_and_they_do_not_spin(threads):
    options = open_session(doubling(), threads=threads).get_session_options()
    assert options.intra_op_num_threads == threads
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_a_graph_that_cannot_be_loaded_is_told_in_one_line_and_nothing_is_printed(capfd):
    with pytest.raises(UnloadableGraphError, match=r"\A[^\n]+\Z") as caught:
        open_session(b"no graph")
    assert isinstance(caught.value, BackendError)
    assert capfd.readouterr() == ("", "")
