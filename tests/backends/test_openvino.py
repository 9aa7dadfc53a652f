"""What is particular to OpenVINO."""

import subprocess
import sys

import numpy as np
import pytest

from bladescan.base.errors import UsageError
from tests.backends.detectors import open_or_skip, openvino_has_bf16
from tests.tiny import crops, tiny_detector


def test_openvino_computes_only_the_encoder_in_bf16(files):
    if not openvino_has_bf16():
        with pytest.raises(UsageError, match="no bf16 instructions"):
            open_or_skip("openvino", files, precision="bf16")
        pytest.skip("this CPU has no bf16 instructions: that is refused")
    x = crops(4)
    exact = open_or_skip("openvino", files).score(x)
    rough = open_or_skip("openvino", files, precision="bf16").score(x)
    assert 0 < abs(rough.embedding - exact.embedding).max() < 0.05
    again = tiny_detector().mixture.score_samples(rough.embedding)
    np.testing.assert_allclose(rough.log_likelihood, again, rtol=1e-4)


def test_openvino_has_no_other_precision(files):
    with pytest.raises(UsageError, match="fp32 or bf16, not 'fp16'"):
        open_or_skip("openvino", files, precision="fp16")


def test_signals_survive_openvino_backends_that_come_and_go(files):
    pytest.importorskip("openvino")
    code = (
        "import faulthandler, os, signal, sys; from pathlib import Path\n"
        "from bladescan.runtimes.registry import *; from bladescan.runtimes.backend import *\n"
        "faulthandler.enable(); signal.signal(signal.SIGUSR1, lambda *_: print('alive', flush=True))\n"
        "def opened(): return get_plugin('openvino').open(Path(sys.argv[1]), BackendSettings())\n"
        "first = opened(); second = opened(); first.close(); del first; second.close(); del second\n"
        "os.kill(os.getpid(), signal.SIGUSR1)"
    )
    done = subprocess.run([sys.executable, "-c", code, files / "d.onnx"], stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (0, b"alive\n")


def test_openvino_sends_nothing_when_it_is_opened(files):
    """Its wheel brings openvino_telemetry, which could."""
    code = (
        "import sys, socket; from pathlib import Path\n"
        "from bladescan.runtimes.registry import *; from bladescan.runtimes.backend import *\n"
        "def no(*_): raise SystemExit('a connection was asked for')\n"
        "socket.socket.connect = socket.getaddrinfo = no\n"
        "get_plugin('openvino').open(Path(sys.argv[1]), BackendSettings()).close()"
    )
    pytest.importorskip("openvino")
    subprocess.run([sys.executable, "-c", code, files / "d.onnx"], check=True)


NO_HOME = """
import os, pwd, sys
from pathlib import Path
os.environ.pop("HOME", None)
pwd.getpwuid = {}.__getitem__  # as for a user that the system does not know
try:
    Path.home()
except RuntimeError:
    print("no home")
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.registry import get_plugin
get_plugin("openvino").open(Path(sys.argv[1]), BackendSettings()).close()
assert "openvino_telemetry" not in sys.modules
from bladescan.base.errors import BackendError
from bladescan.faces.finders import weight_files
try:
    weight_files("insightface")
except BackendError:
    print("no pack")
"""


def test_a_user_without_a_home_can_use_openvino_and_is_told_what_insightface_lacks(files):
    pytest.importorskip("openvino")
    command = [sys.executable, "-c", NO_HOME, files / "d.onnx"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stdout == b"no home\nno pack\n"
