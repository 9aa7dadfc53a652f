"""Tables are Markdown, and their cells carry intervals."""

from benchmarks.tables import cell, heading, percent, row, table
from bladescan.evaluation.metrics import Interval


def test_a_table_is_its_heading_and_its_rows():
    lines = [heading("what", "n"), row("a", 1), row("b", 2)]
    assert table(["what", "n"], [("a", 1), ("b", 2)]) == "\n".join(lines)
    assert lines[0] == "| what | n |\n| --- | --- |"
    assert lines[1] == "| a | 1 |"


def test_cells_show_intervals_and_nothing_is_a_dash():
    assert cell(Interval(0.5, 0.25, 0.75)) == "0.50 (0.25-0.75)"
    assert percent(Interval(0.5, 0.25, 0.75)) == "50.0 (25-75)"
    assert percent(None) == "-"
