"""What an entry of a ledger is kept under, and what it holds."""

from __future__ import annotations

import os
import time

from bladescan.base.provenance_record import CameraEvidence, Evidence, Provenance
from bladescan.base.records import FlaggedBy, ImageRecord, Verdict
from bladescan.ledger.entries import decode, encode, key_of, stamp_of
from bladescan.sources.source import Source, Stamp


def test_a_file_that_was_written_just_now_is_not_remembered(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"1")
    now = time.time_ns()
    os.utime(path, ns=(now, now))
    assert stamp_of(Source(str(path))) is None
    os.utime(path, ns=(now, now - 10**9 + 1))
    assert stamp_of(Source(str(path))) == Stamp(1, str(now - 10**9 + 1))
    now = time.time_ns() // 10**9 * 10**9  # whole seconds, as FAT has them
    os.utime(path, ns=(now, now))
    assert stamp_of(Source(str(path))) is None


def test_a_key_names_the_same_file_from_any_folder(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a/b")
    monkeypatch.chdir(tmp_path)
    assert key_of("a/x") == key_of("./a//x") == key_of("link/../x") == os.fsencode(tmp_path / "a" / "x")
    assert key_of("https://user:secret@host/x?y=@") == b"https://host/x?y=@"


def test_what_a_file_says_comes_back_and_what_it_does_not_say_takes_no_room():
    camera = CameraEvidence(3, "sparse", contradictions=("a thumbnail of another shape",))
    mark = Evidence("exif", "exif:Software", "ai-edited", "a tool")
    for said in (
        None,
        Provenance(),
        Provenance("ai-edited", "exif", "a tool", "", "absent", (mark,), camera),
    ):
        record = ImageRecord("x", Verdict.AI_GENERATED, flagged_by=FlaggedBy.BOTH, provenance=said)
        assert decode(encode(record), "x") == record
    assert '"provenance":{}' in encode(ImageRecord("x", Verdict.NO_FACE, provenance=Provenance()))
