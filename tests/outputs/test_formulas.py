"""No cell of a CSV is a formula, whatever character a spreadsheet takes for the end of a cell."""

from __future__ import annotations

import csv
import io

import pytest

from bladescan.base.provenance_record import Provenance
from bladescan.base.records import ImageRecord, Reason, Verdict
from bladescan.outputs.csv_format import CsvFormat
from bladescan.outputs.rows import COLUMNS
from tests.outputs.test_sink import RUN

STARTS = ["=", "+", "-", "@", "\t=", "\r=", "\uff1d", "\uff0b", "\uff0d", "\uff20"]
FORMULA = '1+cmd|"/C calc"!A0'
ENDS = [",", ";", "\t", "\r", "\n", "|", "\r\n"]


def line_of(path: str, text: str) -> str:
    said = Provenance("none", "", text, text, "absent", ())
    record = ImageRecord(path, Verdict.UNREADABLE, Reason.CORRUPT, text, provenance=said)
    return CsvFormat(RUN, False).record(record).decode()


def cells(line: str, delimiter: str = ",") -> list[str]:
    (row,) = csv.reader(io.StringIO(line, newline=""), delimiter=delimiter)
    return row


@pytest.mark.parametrize("start", STARTS)
def test_a_cell_that_begins_as_a_formula_is_made_harmless(start):
    found = dict(zip(COLUMNS, cells(line_of(f"{start}{FORMULA}", f"{start}{FORMULA}")), strict=True))
    assert found["path"] == f"./{start}{FORMULA}"  # the same file
    for column in ("detail", "declared_tool", "declared_signer"):
        assert found[column].replace("'", "") == f"{start}{FORMULA}" and found[column][0] == "'"


@pytest.mark.parametrize("end", ENDS, ids=repr)
@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\uff1d"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"], ids=repr)
def test_no_cell_begins_as_a_formula_wherever_cells_end(delimiter, start, end):
    text = f"x{end}{start}{FORMULA}"
    line = line_of(text, text)
    for row in csv.reader(io.StringIO(line, newline=""), delimiter=delimiter):
        assert not [cell for cell in row if cell.startswith(tuple(STARTS))]
    assert cells(line)[0] == text  # a path stays a name of the same file


def test_a_minus_that_is_no_start_of_a_cell_stays():
    assert "'" not in line_of("a-b.jpg", "JPEG - 12 x 15; the least side is 16")


@pytest.mark.parametrize("first", range(0xF8, 0xFC))
def test_the_base64_of_a_name_is_no_formula(first):
    name = bytes((first,)) + b"abc.jpg"
    record = ImageRecord(name.decode("utf-8", "surrogateescape"), Verdict.UNREADABLE, Reason.EMPTY, "")
    found = cells(CsvFormat(RUN, False).record(record).decode())
    import base64

    (encoded,) = (cell for cell in found if cell and cell[-4:] and cell.startswith("Li/"))
    assert base64.b64decode(encoded) == b"./" + name
