"""The file of a ledger: refused when damaged, whole after a full disk, pruned by a rule."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest

from bladescan.base.errors import OutputError
from bladescan.base.records import ImageRecord, Verdict
from bladescan.ledger.entries import LedgerEntry
from bladescan.ledger.entry_file import EntryFile, mapped_errors
from bladescan.ledger.journal import Journal
from bladescan.ledger.ledger import KIND, Ledger, PruneRule, open_reader
from bladescan.sources.source import Stamp
from tests.ledger.remembered import ONE


def test_a_ledger_that_may_not_be_written_says_what_it_needs(tmp_path):
    with (
        pytest.raises(OutputError, match="needs write permission for the file and its folder"),
        mapped_errors("x", "ledger"),
    ):
        with closing(sqlite3.connect(tmp_path / "x")) as db:
            db.execute("PRAGMA query_only = ON")
            db.execute("CREATE TABLE entry (x)")


def test_a_journal_is_no_ledger(tmp_path):
    journal = Journal(str(tmp_path / "v.csv"), ONE, resume=False)
    journal.put(LedgerEntry(b"k", Stamp(1, "x"), ImageRecord("k", Verdict.NO_FACE)))
    journal.close()
    with pytest.raises(Exception, match="is not a ledger"):
        Ledger(journal.path)


def test_a_full_disk_leaves_the_ledger_as_it_was(tmp_path):
    file = EntryFile(str(tmp_path / "ledger"), KIND)
    file.begin_run(ONE)
    file.put(LedgerEntry(b"k", Stamp(1, "x"), ImageRecord("k", Verdict.NO_FACE)))
    file.flush()
    pages = file.db.execute("PRAGMA page_count").fetchone()[0]
    file.db.execute(f"PRAGMA max_page_count = {pages}")  # as a full disk: SQLite's own answer to it
    for index in range(1000):
        file._held.append((b"%d" % index, 1, "x", "no-face", "{}" * 100, 0, file.settings, file.run))
    with pytest.raises(Exception, match="full"):
        file.flush()
    file.close()
    with open_reader(str(tmp_path / "ledger")) as reader:
        assert sum(count.n for count in reader.counts()) == 1


@pytest.mark.parametrize(
    "rule,left",
    [
        (PruneRule(), ["gone", "there", "k", "below-a-file"]),
        (PruneRule(gone=True), ["there", "k"]),
        (PruneRule(stale=True), ["there", "k", "below-a-file"]),
        (
            PruneRule(before=datetime(2020, 1, 1, tzinfo=UTC).timestamp()),
            ["gone", "there", "k", "below-a-file"],
        ),
        (PruneRule(before=datetime(2999, 1, 1, tzinfo=UTC).timestamp()), []),
    ],
)
def test_only_what_the_rule_names_is_pruned(filled, rule, left):
    file = Ledger(str(filled))
    assert file.prune(rule, dry_run=True) == 4 - len(left)
    assert file.count() == 4
    assert file.prune(rule) == 4 - len(left)
    file.close()
    with open_reader(str(filled)) as reader:
        assert {os.path.basename(entry.record.source) for entry in reader.entries()} == set(left)
