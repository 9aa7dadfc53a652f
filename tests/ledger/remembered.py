"""Scans that a ledger remembers, without the command: records of made-up pictures."""

from __future__ import annotations

import os

import pytest

from bladescan.base.records import FaceBox, FaceVerdict, ImageRecord, Verdict
from bladescan.ledger.earlier import EarlierOptions, EarlierVerdicts
from bladescan.ledger.entries import VerdictSettings
from bladescan.sources.source import Source, Stamp

ONE, OTHER = VerdictSettings.of({"head": "one-class"}), VerdictSettings.of({"head": "binary"})
FACE = FaceVerdict(
    1,
    FaceBox(0.1, 2, 3, 4, 0.5, ((1.0, 2.0),) * 5, 90),
    -1e-17,
    1 / 3,
    0.25,
    Verdict.AI_GENERATED,
    "one-class",
    1e-17,
    -0.1,
    0.26,
)
NAMES = ["a.jpg", "é\n.jpg", "\udcff\udcfe,'.jpg", "s3://bucket/a//b", "=1+1"]


def scan_all(path, settings, sources, *, show="all", output=None, lose=()):
    """What a scan is to the ledger: known sources keep their records, the others get new ones."""
    options = EarlierOptions(None if output is None else str(output), ledger=str(path), show=show)
    with EarlierVerdicts(options, settings, holds_back=False) as earlier:
        earlier.begin()
        new, out = [], []

        def records():
            for source in earlier.look_up(sources):
                if source.known is None:
                    new.append(source.name)
                yield source.known or ImageRecord(source.name, Verdict.AI_GENERATED, faces=(FACE,))

        out = [record for record in earlier.keep(records())]
        earlier.commit()
        return new, out, earlier.n_unchanged


@pytest.fixture
def filled(tmp_path):
    """A ledger of a file that is there, one that is gone, an object, and one entry of other settings."""
    (tmp_path / "there").touch()
    os.utime(tmp_path / "there", (1, 1.5))
    gone = [Source(str(tmp_path / name), stamp=Stamp(1, "x")) for name in ("gone", "there/below-a-file")]
    scan_all(tmp_path / "ledger", OTHER, gone[:1])
    scan_all(
        tmp_path / "ledger",
        ONE,
        [Source(str(tmp_path / "there")), Source("s3://b/k", stamp=Stamp(1, "x")), *gone[1:]],
    )
    return tmp_path / "ledger"
