"""What has not changed is not read again; only what was written counts."""

from __future__ import annotations

import os

import pytest

from bladescan.base.records import ImageRecord, Reason, Verdict
from bladescan.ledger.earlier import EarlierOptions, EarlierVerdicts
from bladescan.ledger.entries import key_of
from bladescan.ledger.ledger import open_reader
from bladescan.sources.source import Source, Stamp
from tests.ledger.remembered import NAMES, ONE, OTHER, scan_all

# What is kept, and when it is used


def test_a_record_comes_back_as_it_was_under_its_name_of_today(tmp_path):
    sources = [Source(name, stamp=Stamp(1, "x")) for name in NAMES]
    new, first, _ = scan_all(tmp_path / "ledger", ONE, sources)
    assert new == NAMES
    new, again, n_unchanged = scan_all(tmp_path / "ledger", ONE, sources)
    assert (new, again, n_unchanged) == ([], first, len(NAMES))
    with open_reader(str(tmp_path / "ledger")) as reader:
        found = {os.fsencode(entry.record.source) for entry in reader.entries()}
    assert found == {key_of(name) for name in NAMES}


@pytest.mark.parametrize("output", [None, "v.csv"])
def test_size_time_etag_and_settings_each_make_an_entry_stale(tmp_path, output):
    def look(stamp, settings=ONE):
        sources = [Source("s3://b/k", stamp=stamp)]
        return scan_all(tmp_path / "ledger", settings, sources, output=output and tmp_path / output)[0]

    assert look(Stamp(1, "x"))
    assert not look(Stamp(1, "x"))
    assert look(Stamp(2, "x"))
    assert look(Stamp(2, "y"))
    assert not look(Stamp(2, "y"))
    assert look(Stamp(2, "y"), OTHER)
    assert look(Stamp(2, "y"), ONE)  # one entry for each source: the newest


def test_only_new_rows_are_shown_by_choice(tmp_path):
    sources = [Source(name, stamp=Stamp(1, "x")) for name in NAMES]
    scan_all(tmp_path / "ledger", ONE, sources[:3])
    new, shown, n_unchanged = scan_all(tmp_path / "ledger", ONE, sources, show="new")
    assert new == [record.source for record in shown] == NAMES[3:]
    assert n_unchanged == 3


def test_a_name_listed_twice_has_two_rows_each_time(tmp_path):
    sources = [Source("s3://b/k", stamp=Stamp(1, "x"))] * 200
    new, shown, _ = scan_all(tmp_path / "ledger", ONE, sources, show="new")
    assert len(new) == len(shown) == 200


@pytest.mark.parametrize("reason", Reason)
def test_what_may_pass_is_looked_at_again(tmp_path, reason):
    options = EarlierOptions(ledger=str(tmp_path / "ledger"))
    source = Source("s3://b/k", stamp=Stamp(1, "x"))
    for _ in range(2):
        with EarlierVerdicts(options, ONE, holds_back=False) as earlier:
            (listed,) = earlier.look_up([source])
            record = ImageRecord("s3://b/k", Verdict.UNREADABLE, reason)
            list(earlier.keep([listed.known or record]))
            earlier.commit()
    passing = {"timeout", "read-error", "permission-denied", "vanished", "not-found", "decoder-crashed"}
    assert (listed.known is None) == (reason.value in passing)


def test_entries_of_rows_that_were_not_written_are_not_kept(tmp_path):
    sources = [Source(name, stamp=Stamp(1, "x")) for name in NAMES]
    options = EarlierOptions(str(tmp_path / "v.csv"), ledger=str(tmp_path / "ledger"))
    with EarlierVerdicts(options, ONE, holds_back=False) as earlier:
        earlier.begin()
        listed = earlier.look_up(sources)
        list(earlier.keep(ImageRecord(source.name, Verdict.NO_FACE) for source in listed))
    new, _, _ = scan_all(tmp_path / "ledger", ONE, sources)
    assert new == NAMES
    # Now the journal of the first run has all, but a resumed run lists only one.
    options = EarlierOptions(str(tmp_path / "v.csv"), resume=True, ledger=str(tmp_path / "other"))
    with EarlierVerdicts(options, ONE, holds_back=False) as earlier:
        assert "(5 images" in earlier.begin()[0]
        assert [s.known is not None for s in earlier.look_up(sources[:1])] == [True]
        list(earlier.keep([ImageRecord(NAMES[0], Verdict.NO_FACE)]))
        earlier.commit()
    with open_reader(str(tmp_path / "other")) as reader:
        assert [os.path.basename(entry.record.source) for entry in reader.entries()] == NAMES[:1]
    assert not list(tmp_path.glob(".v.csv*"))
