"""Engine files: whole or refused, never unpickled, stale anywhere but where they were built."""

import json
import pickle
import shlex
import struct
from pathlib import Path

import msgspec
import pytest

from bladescan.base.errors import BackendError, DetectorError
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.cuda import CudaDevice
from bladescan.runtimes.engine_file import (
    MAGIC,
    EngineBuild,
    EngineFile,
    encode_engine,
    read_engine,
    rebuild_command,
    why_unusable,
)
from bladescan.runtimes.registry import get_plugin
from tests.backends.detectors import Bomb
from tests.tiny import tiny_detector

pytest.importorskip("onnx")
BUILD = EngineBuild("tensorrt", "10.9", "Some GPU", ("9.0",), "fp16", 64, "d.safetensors", "0" * 64)


def some_file():
    return EngineFile(tiny_detector().manifest, BUILD, b"heads", b"engine")


def test_an_engine_file_holds_what_was_put_in(tmp_path):
    path = tmp_path / "d.engine"
    path.write_bytes(encode_engine(some_file()))
    assert read_engine(path) == some_file()


@pytest.mark.parametrize("n", [0, 5, len(MAGIC) + 2, len(MAGIC) + 40, -1, -9])
def test_a_truncated_engine_file_is_told(tmp_path, n):
    path = tmp_path / "t.engine"
    path.write_bytes(encode_engine(some_file())[:n])
    with pytest.raises(DetectorError, match="^t.engine: (not an engine|truncated or damaged)"):
        read_engine(path)


def test_a_damaged_engine_file_is_told(tmp_path):
    path = tmp_path / "t.engine"
    whole = encode_engine(some_file())
    for at in (-1, -8, len(MAGIC) + 1, len(MAGIC) + 30):
        data = bytearray(whole)
        data[at] ^= 1
        path.write_bytes(data)
        with pytest.raises(DetectorError, match="^t.engine: "):
            read_engine(path)


def with_header(**changes):
    whole = encode_engine(some_file())
    start = len(MAGIC) + 4
    stop = start + struct.unpack_from(">I", whole, len(MAGIC))[0]
    header = json.dumps(json.loads(whole[start:stop]) | changes).encode()
    return MAGIC + struct.pack(">I", len(header)) + header + whole[stop:]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "made by a newer bladescan"),
        ({"n_heads": 12, "n_engine": -1}, "truncated or damaged"),
        ({"n_heads": 6}, "truncated or damaged"),
        ({"manifest": {"name": 3}}, "not a bladescan detector"),
    ],
)
def test_a_header_that_lies_is_told(tmp_path, changes, message):
    path = tmp_path / "t.engine"
    path.write_bytes(with_header(**changes))
    with pytest.raises(DetectorError, match=f"^t.engine: {message}"):
        read_engine(path)


def test_no_part_of_an_engine_file_is_unpickled(fake, tmp_path):
    bomb = pickle.dumps(Bomb(tmp_path / "executed"))
    file = some_file()._replace(heads=bomb, engine=bomb, build=msgspec.structs.replace(BUILD, device=""))
    current = msgspec.structs.replace(file.build, library_version="10.99.0")
    for data in (bomb, MAGIC + bomb, encode_engine(file), encode_engine(file._replace(build=current))):
        (tmp_path / "evil.engine").write_bytes(data)
        with pytest.raises((DetectorError, BackendError), match="^evil.engine: "):
            get_plugin("tensorrt").open(tmp_path / "evil.engine", BackendSettings())
    assert not (tmp_path / "executed").exists()


def test_an_engine_is_stale_anywhere_but_where_it_was_built():
    here = CudaDevice("Some GPU", "9.0")
    assert why_unusable(BUILD, "tensorrt", "10.9", here) == ""
    assert "here is tensorrt_rtx 10.9" in why_unusable(BUILD, "tensorrt_rtx", "10.9", here)
    assert "here is tensorrt 10.9.1" in why_unusable(BUILD, "tensorrt", "10.9.1", here)
    assert "Other has 8.9" in why_unusable(BUILD, "tensorrt", "10.9", CudaDevice("Other", "8.9"))
    assert "here is Other" in why_unusable(BUILD, "tensorrt", "10.9", CudaDevice("Other", "9.0"))
    portable = msgspec.structs.replace(BUILD, device="", capabilities=("8.9", "9.0"))
    assert why_unusable(portable, "tensorrt", "10.9", CudaDevice("Other", "8.9")) == ""


def test_the_command_that_rebuilds_integers_names_the_photographs():
    build = msgspec.structs.replace(BUILD, precision="int8", photos=("my photos", "-"))
    words = shlex.split(rebuild_command(build, Path("e.engine")))
    assert words[5:10] == ["--precision", "int8", "--photos=my photos", "--photos=-", "--max-batch"]


@pytest.mark.parametrize("name", ["a b.safetensors", "$(reboot).safetensors", "-o", "; rm -rf x", "'"])
def test_the_command_that_rebuilds_is_quoted(name):
    build = msgspec.structs.replace(BUILD, detector=name, precision=name)
    words = shlex.split(rebuild_command(build, Path("e.engine")))
    assert words[:2] == ["bladescan", "export"]
    assert words[2].removeprefix("./") == name
    assert words[3:6] == ["--to", "tensorrt", "--precision"]
