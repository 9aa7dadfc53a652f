"""Lists of the pictures that reviewers decided, for ``calibrate --photos @FILE`` and its like.

A list is of whole pictures, and whoever reads it takes all their faces. So a picture is on one only if all
its faces were looked at and decided alike, and if it still is the file that was decided.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from bladescan.base.errors import ImageError
from bladescan.base.output_files import write_file
from bladescan.feedback.decision_files import Decisions
from bladescan.images.files import read_file
from bladescan.images.limits import Limits
from bladescan.ledger.decisions import AI_GENERATED, PHOTOGRAPHIC, FaceDecision
from bladescan.sources.addresses import is_url
from bladescan.sources.fetching import Fetcher, PendingFetch, fetch_ahead
from bladescan.sources.source import Source

PHOTOGRAPHS, GENERATED, SAMPLE = "photographs.txt", "ai-generated.txt", "calibration.txt"
_TIMEOUT_S = 30.0


class DecidedPicture(NamedTuple):
    """A picture all of whose faces were decided alike.

    Attributes:
        sha256: of its file.
        decision: on its faces, photographic or AI-generated.
        keys: of the decisions.
        paths: where it was.
    """

    sha256: str
    decision: str
    keys: tuple[tuple[str, int], ...]
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PictureLists:
    """What went where.

    Attributes:
        n: pictures by list.
        left_out: pictures by reason.
    """

    n: dict[str, int]
    left_out: dict[str, int]


def decided_pictures(decisions: Decisions, left_out: Counter[str]) -> Iterator[DecidedPicture]:
    """Yield the pictures that are decided as a whole; count the others by reason."""
    by_file: defaultdict[str, list[FaceDecision]] = defaultdict(list)
    for key, decision in decisions.faces.items():
        by_file[key[0]].append(decision)
    for found in by_file.values():
        reason = _why_not(found)
        if reason:
            left_out[reason] += 1
            continue
        paths = dict.fromkeys(path for decision in found for path in decisions.paths[decision.key])
        keys = tuple(decision.key for decision in found)
        yield DecidedPicture(found[0].sha256, found[0].decision, keys, tuple(paths))


def _why_not(found: list[FaceDecision]) -> str:
    """Tell why a picture is on no list, "" if it is."""
    words = {decision.decision for decision in found}
    faces = {decision.face for decision in found}
    n_faces = max((decision.n_faces or 0 for decision in found), default=0)
    if None in faces:
        return "without a face"
    if not found[0].sha256:
        return "not readable when it was reviewed"
    if not all(decision.is_sure for decision in found):
        return "unsure"
    if len(words) > 1:
        return "with faces that were decided differently"
    if not all(decision.looked_at for decision in found):
        return "near-duplicates that nobody looked at"
    # A number that is missing below the highest is a face that nobody decided, whatever the file says.
    complete = n_faces or max(face for face in faces if face is not None) + 1
    return "" if len(faces) == complete else "with faces that nobody decided"


def write_lists(
    folder: Path, decisions: Decisions, sample: set[tuple[str, int]] | None, limits: Limits
) -> PictureLists:
    """Write the lists of a folder.

    Args:
        folder: that is there.
        decisions: of the reviewers.
        sample: the faces that stand for the scan as a whole; None for no such list.
        limits: of the files, which are read to see that they have not changed.

    Raises:
        OutputError: a list cannot be written.
    """
    left_out: Counter[str] = Counter()
    lists: dict[str, list[bytes]] = {PHOTOGRAPHS: [], GENERATED: []}
    if sample is not None:
        lists[SAMPLE] = []
    for picture, path in unchanged(decided_pictures(decisions, left_out), limits, left_out):
        name = os.fsencode(path if is_url(path) else os.path.abspath(path))
        lists[{PHOTOGRAPHIC: PHOTOGRAPHS, AI_GENERATED: GENERATED}[picture.decision]].append(name)
        if sample is not None and picture.decision == PHOTOGRAPHIC and set(picture.keys) <= sample:
            lists[SAMPLE].append(name)
    for listed, names in lists.items():
        write_file(folder / listed, as_list(names))
    counts = {listed: len(names) for listed, names in lists.items()}
    return PictureLists(counts, dict(sorted(left_out.items())))


def as_list(names: Iterable[bytes]) -> bytes:
    """Write names one a line, or ended by NUL where a line could not hold one of them."""
    names = list(names)
    odd = any(b"\n" in name or name.endswith(b"\r") for name in names)
    return b"".join(name + (b"\0" if odd else b"\n") for name in names)


class _Tried(NamedTuple):
    """A path at which a picture was looked for, and what is there now."""

    picture: DecidedPicture
    path: str
    sha256: str
    why: str


def unchanged(
    pictures: Iterable[DecidedPicture], limits: Limits, left_out: Counter[str]
) -> Iterator[tuple[DecidedPicture, str]]:
    """Yield each picture with a path at which its very bytes still are; count those that have none."""
    for picture, tries in groupby(_tries(pictures, limits), lambda tried: tried.picture):
        found = list(tries)
        path = next((tried.path for tried in found if tried.sha256 == picture.sha256), None)
        if path is None:
            left_out[found[-1].why] += 1
        else:
            yield picture, path


def _tries(pictures: Iterable[DecidedPicture], limits: Limits) -> Iterator[_Tried]:
    asked: deque[DecidedPicture] = deque()

    def sources() -> Iterator[Source]:
        for picture in pictures:
            for path in picture.paths:
                asked.append(picture)
                yield Source(path)

    with Fetcher(limits.max_bytes, _TIMEOUT_S) as fetcher:
        for source, fetched in fetch_ahead(sources(), fetcher):
            assert source is not None
            yield _Tried(asked.popleft(), source.name, *_digest(source, fetched, fetcher, limits))


def _digest(
    source: Source, fetched: PendingFetch | None, fetcher: Fetcher, limits: Limits
) -> tuple[str, str]:
    """Digest a file as it is now; also what it is if that is not what was decided."""
    try:
        if fetched is None:
            data = read_file(source.name, limits)
        else:
            data = fetched.body.result().data
        return hashlib.sha256(data).hexdigest(), "changed since"
    except ImageError:
        return "", "gone, or not readable any more"
    finally:
        if fetched is not None:
            fetcher.release(fetched.ticket)
