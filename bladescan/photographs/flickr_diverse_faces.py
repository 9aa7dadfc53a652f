"""Flickr Diverse Faces (FDF): boxes and tags that stand beside the pictures instead of in them.

It finds and reads the two kinds of JSON, opens no picture, and looks for no face. ``docs/photographs.md``
draws the folder.

References:
    Hukkelas, Mester, Lindseth: "DeepPrivacy", ISVC 2019, arXiv:1909.04538 (the data set and its metainfo).
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from bladescan.base.errors import DataError
from bladescan.exif.tags import Exif, exif_from_fields
from bladescan.tasks.pretext_tasks import TASKS, TaskKind

METAINFO = "fdf_metainfo.json"
"""What makes a folder one of this layout."""

TAGS_GLOB = "*exif*"
"""The tags: one JSON file of this name in the folder, or a folder of this name with one for each photo."""

DEPTH = 3
"""The pictures lie at most so many folders below: ``images/128/0.png``."""

_CATEGORICAL = {
    "Make": "make",
    "Metering Mode": "metering_mode",
    "Exposure Mode": "exposure_mode",
    "White Balance Mode": "white_balance_mode",
    "Exposure Program": "exposure_program",
}
_T = TypeVar("_T")
_PHOTO_ID = re.compile(r"/photos/[^/]+/(\d+)")


class Annotation(msgspec.Struct, frozen=True):
    """Box and tags of one picture that stand outside it. Crosses processes.

    Attributes:
        box: x0, y0, x1, y1 of the face, as shares of width and height; None where it is not said.
        fields: the tags as they were written; None where there are none.
    """

    box: tuple[float, float, float, float] | None
    fields: dict[str, Any] | None


class _Face(msgspec.Struct, frozen=True):
    """An entry of the metainfo; its other keys are passed over."""

    bounding_box: tuple[float, float, float, float] | None = None
    photo_url: str = ""


class FdfFolder:
    """One folder of the layout, its JSON read.

    Args:
        root: holds `METAINFO`.

    Raises:
        DataError: the metainfo or the tags are not what they should be, or there are two files of tags.
    """

    def __init__(self, root: Path) -> None:
        self._faces = _decoded(root / METAINFO, dict[str, _Face])
        found = sorted(path for path in root.glob(TAGS_GLOB) if path.is_dir() or path.suffix == ".json")
        if len(found) > 1:
            raise DataError(f"{root}: expected one {TAGS_GLOB} with tags, found {found[0]} and {found[1]}")
        self._by_photo = found[0] if found and found[0].is_dir() else None
        self._by_picture: dict[str, dict[str, Any]] = {}
        if found and not self._by_photo:
            entries = _decoded(found[0], dict[str, dict[str, Any]])
            self._by_picture = {Path(str(e.get("path", key))).stem: e for key, e in entries.items()}

    def annotation(self, picture: str) -> Annotation | None:
        """Look up a picture by its file name; None if nothing stands of it."""
        name = Path(picture).stem
        face = self._faces.get(name)
        fields = self._by_picture.get(name)
        if face is not None and self._by_photo is not None:
            fields = _photo_fields(self._by_photo, face.photo_url)
        if face is None and fields is None:
            return None
        return Annotation(face.bounding_box if face else None, fields)


class Annotations:
    """The annotations of many pictures, for one run: JSON is read once, as it is then."""

    def __init__(self) -> None:
        self._roots: dict[Path, Path | None] = {}
        self._folders: dict[Path, FdfFolder] = {}

    def of(self, picture: str) -> Annotation | None:
        """Look up one picture by its path; None if it lies in no folder of the layout.

        Raises:
            DataError: the JSON cannot be used.
        """
        folder = Path(picture).absolute().parent
        if folder not in self._roots:
            self._roots[folder] = _root_of(folder)
        root = self._roots[folder]
        if root is None:
            return None
        if root not in self._folders:
            self._folders[root] = FdfFolder(root)
        return self._folders[root].annotation(picture)


def _root_of(folder: Path) -> Path | None:
    return next((at for at in (folder, *folder.parents[:DEPTH]) if os.path.isfile(at / METAINFO)), None)


def exif_of(fields: Mapping[str, Any]) -> Exif:
    """Read the tags of an entry of the JSON, in any of three shapes.

    Named fields (``{"ISO": "400", ...}``), the same below the key ``EXIF``, or those of the BLADES release:
    ``EXIF_ordinal`` with numbers and ``EXIF_categorical`` with ``{"cls_label": index}``, the index being that
    of the class in the task's table.
    """
    if isinstance(fields.get("EXIF"), dict):
        fields = fields["EXIF"]
    ordinal, categorical = fields.get("EXIF_ordinal"), fields.get("EXIF_categorical")
    if not isinstance(ordinal, dict) and not isinstance(categorical, dict):
        return exif_from_fields(fields)
    exif = exif_from_fields(_in_seconds(ordinal if isinstance(ordinal, dict) else {}))
    classes = _classes(categorical if isinstance(categorical, dict) else {})
    return replace(exif, tags={**exif.tags, **classes})


def _in_seconds(ordinal: Mapping[str, Any]) -> dict[str, Any]:
    # The release wrote "1/60 sec" as the number 60; a number below 1 is a time in seconds.
    time = ordinal.get("Exposure Time")
    if isinstance(time, (int, float)) and time >= 1:
        return {**ordinal, "Exposure Time": 1 / time}
    return dict(ordinal)


def _classes(categorical: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for key, name in _CATEGORICAL.items():
        entry, task = categorical.get(key), TASKS[name]
        assert task.kind is TaskKind.CATEGORICAL
        index = entry.get("cls_label") if isinstance(entry, dict) else entry
        if type(index) is int and 0 <= index < len(task.classes):
            found[name] = task.classes[index]
    return found


def _photo_fields(folder: Path, photo_url: str) -> dict[str, Any] | None:
    match = _PHOTO_ID.search(photo_url)
    path = folder / f"{match[1]}.json" if match else None
    return _decoded(path, dict[str, Any]) if path and path.is_file() else None


def _decoded(path: Path, kind: type[_T]) -> _T:
    """Decode a JSON file as a type.

    Raises:
        DataError: it cannot be read, or is something else.
    """
    try:
        # A map of the file, not a copy: FDF's metainfo has more than a gigabyte.
        with (
            open(path, "rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
            memoryview(content) as view,
        ):
            return msgspec.json.decode(view, type=kind)
    except (OSError, ValueError, msgspec.MsgspecError) as exc:
        raise DataError(f"{path}: cannot be read as FDF's JSON: {exc}") from exc
