"""Tags are counted over the photographs that are used."""

import os

from bladescan.exif.tags import EXIF_TASKS
from bladescan.photographs.index import IndexEntry
from bladescan.photographs.tag_summary import format_summary, format_totals, summarise


def entry(kind="face", reason=None, camera="", **tags):
    return IndexEntry(os.urandom(4).hex(), kind, tags, camera, reason)


ENTRIES = [
    entry(iso_speed=100.0, exposure_time=1 / 60, make="Canon", camera="canon eos"),
    entry(iso_speed=101.0, exposure_time=0.01667, make="Canon", camera="canon eos"),
    entry("patch", iso_speed=12800.0, make="Nikon", camera="nikon d70"),
    entry(),
    entry("none", "no-face", iso_speed=50.0),
]


def test_the_summary_counts_every_tag_over_the_photographs_that_are_used():
    rows_by_task = {row.task: row for row in summarise(ENTRIES)}
    assert tuple(rows_by_task) == EXIF_TASKS
    for row in rows_by_task.values():
        assert row.n_present + row.n_missing == 4
        assert sum(row.counts.values()) == row.n_present
    make = rows_by_task["make"]
    assert (make.kind, make.n_present, make.counts["Canon"], make.counts["Sony"]) == ("categorical", 3, 2, 0)


def test_ordinal_tags_are_counted_in_ranges_that_hold_their_upper_end():
    iso, _, time_s, focal_length = summarise(ENTRIES)[:4]
    assert (iso.counts["to 100"], iso.counts["to 200"], iso.counts["above 6400"]) == (1, 1, 1)
    assert iso.spread == (100, 101, 12800)
    assert time_s.counts["to 1/60 s"] == 2
    assert focal_length.spread is None


def test_the_table_has_a_line_for_every_tag():
    lines = format_summary(summarise(ENTRIES)).splitlines()
    assert lines[0].split() == ["tag", "have", "missing", "values"]
    assert [line.split()[0] for line in lines[1:]] == list(EXIF_TASKS)
    assert lines[1].split(maxsplit=3) == ["iso_speed", "3", "1", "100 to 12800, median 101"]
    assert lines[3].endswith("1/60 s to 1/60 s, median 1/60 s")
    assert lines[5].endswith("Canon 2, Nikon 1") and lines[6].endswith("none")


def test_the_totals_leave_out_what_is_left_out():
    assert format_totals(ENTRIES) == (
        "faces 3, patches of photographs without a face 1, camera models 2, with all nine tags 0"
    )
