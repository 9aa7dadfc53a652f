"""Tensors out of a stranger's file: safetensors, or a PyTorch file read without running anything in it.

It knows no network: names and shapes are checked by whoever asked for the tensors.
"""

from __future__ import annotations

import hashlib
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bladescan.base.errors import DetectorError, MissingDependencyError

HUB_PREFIX = "hub:"
"""What a file on the Hugging Face hub is called by: ``hub:owner/name`` or ``hub:owner/name@revision``."""
MAX_BYTES = 4 << 30
"""Largest file, and largest content of an archive: the largest published one here is 0.5 GB."""

_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


class Weights(NamedTuple):
    """What a file holds.

    Attributes:
        tensors: by name; of a PyTorch file that keeps its state dict under ``model`` or ``state_dict``, that.
        metadata: of a safetensors file, else empty.
        sha256: of the whole file.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    sha256: str


def read_weights(path: Path) -> Weights:
    """Read every tensor of a file; what kind it is, its content says.

    PyTorch files are read with ``weights_only=True``: a pickle that asks for anything but tensors and plain
    containers is refused before it runs.

    Raises:
        DetectorError: the file is missing, too large, broken, or holds something else than tensors.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DetectorError(f"{path}: has {size} bytes; the limit is {MAX_BYTES}")
        with path.open("rb") as file:
            start = file.read(9)
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise DetectorError(f"{path}: cannot be read: {exc.strerror or exc}") from exc
    if start[8:] == b"{":  # the JSON header that follows the 8 bytes of its length
        return Weights(*read_safetensors(path), sha256)
    if start.startswith((b"PK", b"\x80")):  # a zip archive, or the bare pickle of PyTorch before 1.6
        return Weights(_read_torch(path), {}, sha256)
    raise DetectorError(f"{path}: neither a safetensors nor a PyTorch file")


def fetch(name: str) -> Path:
    """Get the file that ``hub:owner/name`` stands for; download it unless it is in the cache.

    Raises:
        MissingDependencyError: ``huggingface_hub`` is not installed.
        DetectorError: there is no such repository or file, or the hub cannot be reached.
    """
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    except ImportError as exc:
        install = "pip install 'bladescan[train]'"
        raise MissingDependencyError(f"{name!r}", "huggingface_hub", install) from exc
    repository, _, revision = name.removeprefix(HUB_PREFIX).partition("@")
    # The cache first, for both names: what was downloaded once needs no network.
    for offline, file in [(offline, file) for offline in (True, False) for file in _HUB_FILES]:
        try:
            found = hf_hub_download(repository, file, revision=revision or None, local_files_only=offline)
            return Path(found)
        except LocalEntryNotFoundError as exc:
            if not offline:
                raise DetectorError(
                    f"{name}: is not in the cache, and the hub cannot be reached: give a file instead"
                ) from exc
        except EntryNotFoundError:
            continue
        except Exception as exc:  # the hub's, the HTTP client's and the validator's, which share no base
            raise DetectorError(f"{name}: cannot be downloaded: {_one_line(exc)}") from exc
    raise DetectorError(f"{name}: has neither {' nor '.join(_HUB_FILES)}")


def read_safetensors(path: Path, *, where: str = "") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read tensors and metadata of a safetensors file.

    Args:
        path: of the file.
        where: its name in errors, the path unless another is given.

    Raises:
        DetectorError: it cannot be read, or is no whole safetensors file.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            # Copies: a tensor over the file's own memory would change with the file.
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except OSError as exc:
        raise DetectorError(f"{path}: cannot be read: {exc.strerror or exc}") from exc
    except SafetensorError as exc:
        raise DetectorError(f"{where or path}: not a complete safetensors file: {exc}") from exc


def _read_torch(path: Path) -> dict[str, Tensor]:
    _check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; what cannot be read is an error anyway
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as exc:  # a hostile or cut-off pickle raises nearly anything
        raise DetectorError(f"{path}: {_why_not(exc)}") from exc
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content:
        raise DetectorError(f"{path}: expected a state dict, found {type(content).__name__}")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise DetectorError(f"{path}: has {key!r} ({type(value).__name__}), expected tensors by name")
    return dict(content)


def _check_archive(path: Path) -> None:
    """Refuse a compressed archive, which could unpack to any size."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as exc:
        raise DetectorError(f"{path}: not a complete PyTorch file: {exc}") from exc
    if size > MAX_BYTES:
        raise DetectorError(f"{path}: would unpack to {size} bytes; the limit is {MAX_BYTES}")


def _why_not(exc: Exception) -> str:
    text = str(exc)
    if "TorchScript" in text:
        return "is a TorchScript archive, which contains code: save its state_dict() instead"
    if found := re.search(r"GLOBAL (\S+)", text):
        return f"contains {found[1]} besides tensors; none of it was run: save the bare state dict instead"
    if "Weights only load failed" in text:
        return "contains more than tensors and plain containers; none of it was run"
    return f"not a complete PyTorch file: {_one_line(exc)}"


def _one_line(exc: Exception) -> str:
    return str(exc).strip().split("\n")[0].split(". ")[0][:200] or type(exc).__name__
