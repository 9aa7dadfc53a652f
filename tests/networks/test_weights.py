from __future__ import annotations

import argparse
import hashlib
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bladescan.base.errors import DetectorError
from bladescan.networks import weights
from bladescan.networks.weights import fetch, read_weights

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.tensor([1.5], dtype=torch.float16)}


class Hostile:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def assert_state(tensors: dict[str, torch.Tensor]) -> None:
    assert set(tensors) == set(STATE)
    assert all(torch.equal(tensors[key], STATE[key]) for key in STATE)


@pytest.mark.parametrize("content", [STATE, {"model": STATE, "epoch": 3}, {"state_dict": STATE}])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pytorch_file_gives_its_state_dict(tmp_path, content, zipped):
    path = tmp_path / "x.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    found = read_weights(path)
    assert_state(found.tensors)
    assert found.metadata == {}
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_safetensors_file_gives_its_tensors_whatever_its_name(tmp_path):
    save_file(STATE, tmp_path / "x.pth", metadata={"k": "v"})
    found = read_weights(tmp_path / "x.pth")
    assert_state(found.tensors)
    assert found.metadata == {"k": "v"}


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_is_refused_before_it_runs(tmp_path, zipped):
    hostile = Hostile(tmp_path / "made")
    torch.save({"model": STATE, "extra": hostile}, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(DetectorError, match=r"contains posix.mkdir besides tensors; none of it was run"):
        read_weights(tmp_path / "x.pth")
    assert not (tmp_path / "made").exists()
    torch.load(tmp_path / "x.pth", weights_only=False)
    assert (tmp_path / "made").exists(), "the file would have run code elsewhere"


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_bare_pickle_that_runs_code_is_refused_before_it_runs(tmp_path, protocol):
    (tmp_path / "x.pth").write_bytes(pickle.dumps(Hostile(tmp_path / "made"), protocol))
    with pytest.raises(DetectorError, match="none of it was run"):
        read_weights(tmp_path / "x.pth")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": STATE, "args": argparse.Namespace(lr=1.0)}, "contains argparse.Namespace besides tensors"),
        ({"model": STATE | {"n": 3}}, "has 'n' .int., expected tensors by name"),
        ({1: STATE["a.weight"]}, "has 1 .Tensor., expected tensors by name"),
        ([STATE["a.weight"]], "expected a state dict, found list"),
        ({}, "expected a state dict, found dict"),
    ],
)
def test_what_is_no_state_dict_is_told_in_one_line(tmp_path, content, message):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(DetectorError, match=message) as caught:
        read_weights(tmp_path / "x.pth")
    assert "\n" not in str(caught.value)


def test_a_torchscript_archive_is_refused_with_the_way_out(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        for name in ("x/constants.pkl", "x/data.pkl", "x/code/__torch__.py", "x/version"):
            archive.writestr(name, b"3\n")
    with pytest.raises(DetectorError, match="TorchScript archive, which contains code"):
        read_weights(tmp_path / "x.pt")


@pytest.mark.parametrize("kind", ["zip", "safetensors"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_file_cut_off_is_refused(tmp_path, kind, share):
    state = {"w": torch.zeros(1000)}
    if kind == "zip":
        torch.save(state, tmp_path / "x")
    else:
        save_file(state, tmp_path / "x")
    data = (tmp_path / "x").read_bytes()
    (tmp_path / "x").write_bytes(data[: int(share * len(data))])
    with pytest.raises(DetectorError, match=r"not a complete (PyTorch|safetensors) file") as caught:
        read_weights(tmp_path / "x")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"\x80", b"PK", b"GIF89a and more", b"\x00" * 100])
def test_a_file_of_another_kind_is_refused(tmp_path, data):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(DetectorError):
        read_weights(tmp_path / "x")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(DetectorError, match="No such file"):
        read_weights(tmp_path / "x")
    with pytest.raises(DetectorError, match="Is a directory"):
        read_weights(tmp_path)


def test_a_file_and_an_archive_out_of_bounds_are_refused_unread(tmp_path, monkeypatch):
    torch.save({"w": torch.zeros(100_000)}, tmp_path / "big.pth")
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", bytes(1_000_000))
    assert (tmp_path / "bomb.pth").stat().st_size < 10_000
    monkeypatch.setattr(weights, "MAX_BYTES", 100_000)
    with pytest.raises(DetectorError, match="the limit is 100000"):
        read_weights(tmp_path / "big.pth")
    with pytest.raises(DetectorError, match="would unpack to 1000000 bytes"):
        read_weights(tmp_path / "bomb.pth")


# The hub


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """A cache of the hub with nothing in it, and no network."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def cached(hub: Path, name: str, file: str, revision: str = "main") -> Path:
    folder = hub / f"models--{name.replace('/', '--')}"
    commit = "0" * 40
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / revision).write_text(commit)
    path = folder / "snapshots" / commit / file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    return path


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_what_is_in_the_hubs_cache_needs_no_network(hub, file):
    path = cached(hub, "owner/name", file)
    assert fetch("hub:owner/name").samefile(path)


def test_a_revision_is_the_one_asked_for(hub):
    path = cached(hub, "owner/name", "model.safetensors", "v2")
    assert fetch("hub:owner/name@v2").samefile(path)
    with pytest.raises(DetectorError, match="hub:owner/name: "):
        fetch("hub:owner/name")


def test_a_hub_out_of_reach_is_told_in_one_line_with_the_way_out(hub):
    with pytest.raises(DetectorError, match=r"hub:owner/name: .*give a file instead") as caught:
        fetch("hub:owner/name")
    assert "\n" not in str(caught.value)


def test_a_name_that_no_repository_can_have_is_told_in_one_line(hub):
    with pytest.raises(DetectorError, match="hub:a/b/c: cannot be downloaded: Repo id") as caught:
        fetch("hub:a/b/c")
    assert "\n" not in str(caught.value)
