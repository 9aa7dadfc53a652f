"""What the outputs hold, to the byte, and what becomes of files when things go wrong."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from bladescan.base.errors import OutputError, UnknownNameError, UsageError
from bladescan.base.provenance_record import Evidence, Provenance
from bladescan.base.records import FaceBox, FaceVerdict, FlaggedBy, ImageRecord, Reason, Verdict
from bladescan.outputs.formats import OUTPUT_FORMATS, choose_format
from bladescan.outputs.parquet_format import ROW_GROUP
from bladescan.outputs.rows import COLUMNS
from bladescan.outputs.run import RunInfo, RunSummary
from bladescan.outputs.sink import open_sink
from tests import ROOT

NAMES = ("1.0", "d", "ab", "onnx", "cpu", "yunet", "one-class")
RUN = RunInfo(*NAMES, 0.05, None, -1.5, "2026-01-01T00:00:00Z", "flag", "12")
BOX = FaceBox(1, 2.26, 3, 4, 0.9)
DECIDED = ("one-class", 1234.56789, 1234.5, 0.0123456789)
FACE = FaceVerdict(0, BOX, -1234.56789, None, 0.01, Verdict.AI_GENERATED, *DECIDED)
MARK = Evidence("png-text", "png-text:parameters", "ai-generated", "=a tool", "its own mark")
SAYS = Provenance("ai-generated", "png-text", "=a tool", "", "absent", (MARK,))
FLAGGED = ImageRecord(
    "a.jpg", Verdict.AI_GENERATED, None, None, "JPEG", 10, 20, 1, (FACE,), FlaggedBy.BOTH, SAYS
)
BROKEN = ImageRecord("b", Verdict.UNREADABLE, Reason.EMPTY, "0 bytes")
COSTS = {"bytes_read": 7, "images_per_second": 4.0, "faces_per_second": 2.0, "stage_seconds": {"fetch": 0.25}}
SUMMARY = RunSummary(
    2, 1, {"ai-generated": 1}, {"empty": 1}, {"invalid": 1}, {"declared": 1}, 0.5, 3, **COSTS
)
RUN_JSON = (
    '"schema_version":4,"version":"1.0","detector":"d","detector_sha256":"ab","backend":"onnx","device":"cpu",'
    '"face_finder":"yunet","head":"one-class","false_alarm":0.05,"fdr":null,"threshold":-1.5,'
    '"started":"2026-01-01T00:00:00Z","declared":"flag","provenance_reader":"12","trust_list":null,'
    '"storey":false,"stability":null,"components":[],"combined_by":"","measured":"","subject":"face","image_detector":null}'
)
IMAGE_JSON = (
    '"path":"a.jpg","verdict":"ai-generated","reason":null,"detail":null,"format":"JPEG","width":10,"height":20,'
    '"n_frames":1,"flagged_by":"detector+declared","declared":"ai-generated","declared_by":"png-text",'
    '"declared_tool":"=a tool","declared_signer":null,"c2pa_status":"absent","evidence":[{"by":"png-text",'
    '"where":"png-text:parameters","says":"ai-generated","tool":"=a tool","detail":"its own mark"}],"camera":'
    '{"n_tags":0,"word":"none","has_maker_note":false,"contradictions":[]},'
    '"faces":[{"face":0,"frame":0,"x0":1.0,"y0":2.3,"x1":3.0,"y1":4.0,"rotation":0,"detection_score":0.9,'
    '"subject":"face","tiles":null,"coverage":null,'
    '"head":"one-class","score":1234.57,"threshold":1234.5,"p_value":0.01,"p_smooth":0.0123457,'
    '"stability":null,"log_likelihood":-1234.57,"p_ai_generated":null,"explanation":null,"decision":null,"decided_at":null,'
    '"verdict":"ai-generated"}]}'
)
BROKEN_JSON = (
    '"path":"b","verdict":"unreadable","reason":"empty","detail":"0 bytes","format":null,"width":null,'
    '"height":null,"n_frames":null,"flagged_by":null,"declared":null,"declared_by":null,"declared_tool":null,'
    '"declared_signer":null,"c2pa_status":null,"evidence":null,"camera":null,"faces":[]}'
)
SUMMARY_JSON = (
    '"n_images":2,"n_faces":1,"verdicts":{"ai-generated":1},"reasons":{"empty":1},"declared":{"invalid":1},'
    '"flagged_by":{"declared":1},"seconds":0.5,"exit_code":3,'
    '"complete":true,"reason":null,"n_unchanged":0,"n_other_files":0,'
    '"n_below_top":0,"n_pictures":0,"threshold":null,"bytes_read":7,"images_per_second":4.0,"faces_per_second":2.0,'
    '"stage_seconds":{"fetch":0.25},"decisions":{}}'
)
GOLDEN = {
    "csv": ",".join(COLUMNS)
    + "\na.jpg,ai-generated,,,JPEG,10,20,1,detector+declared,ai-generated,png-text,'=a tool,,absent,"
    + "0,0,1.0,2.3,3.0,4.0,0,0.9,face,,,ai-generated,one-class,1234.57,1234.5,"
    + "0.01,0.0123457,,-1234.57,,,,,\nb,unreadable,empty,0 bytes" + "," * (len(COLUMNS) - 4) + "\n",
    "jsonl": '{"type":"run",' + RUN_JSON + '\n{"type":"image",' + IMAGE_JSON + '\n{"type":"image",'
    + BROKEN_JSON + '\n{"type":"summary",' + SUMMARY_JSON + "\n",
    "json": '{"run":{' + RUN_JSON + ',\n"images":[\n{' + IMAGE_JSON + ",\n{" + BROKEN_JSON
    + '\n],\n"summary":{' + SUMMARY_JSON + "}\n",
    "table": "verdict       suspicion   score     threshold  p-value   P(AI)     path\n"
    "ai-generated  █████████▌  1234.57   1234.5     0.01      -         a.jpg"
    "  (declared ai-generated: png-text, =a tool)\n"
    "unreadable                -         -          -         -         b  (empty: 0 bytes)\n",
}  # fmt: skip


def written(format, *records):
    stream = io.BytesIO()
    with open_sink(None, format, RUN, stream=stream) as sink:
        for record in records:
            sink.write(record)
        sink.finish(SUMMARY)
    return stream.getvalue()


def test_a_stopped_clock_takes_out_what_differs_between_equal_runs(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    written_then = written("jsonl", FLAGGED).decode().splitlines()[-1]
    assert '"seconds":0.0' in written_then and '"bytes_read":0' in written_then
    assert '"stage_seconds":{"fetch":0.0}' in written_then
    assert SUMMARY.bytes_read == 7


def save(path, *records):
    with open_sink(str(path), "auto", RUN, stream=io.BytesIO()) as sink:
        for record in records:
            sink.write(record)
        sink.finish(SUMMARY)


def csv_rows(data):
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


@pytest.mark.parametrize("format", GOLDEN)
def test_every_text_format_is_exactly_as_documented(format):
    assert written(format, FLAGGED, BROKEN).decode() == GOLDEN[format]


@pytest.mark.parametrize(
    ("p", "bar"),
    [(1.0, ""), (0.5, "█▌"), (0.1, "█████"), (0.05, "██████▌"), (0.01, "█" * 10), (0.0, "█" * 10)],
)
def test_the_table_draws_how_suspicious_a_face_is(p, bar):
    line = written("table", replace(FLAGGED, faces=(replace(FACE, p_smooth=p),))).decode().splitlines()[1]
    assert line[14:24] == bar.ljust(10) and line[24:33] == "  1234.57"


def test_every_format_says_how_far_a_face_is_turned():
    lying = replace(FACE, box=FaceBox(1, 2, 3, 4, 0.9, rotation=270))
    record = replace(FLAGGED, faces=(lying,))
    assert csv_rows(written("csv", record))[0]["rotation"] == "270"
    assert json.loads(written("json", record))["images"][0]["faces"][0]["rotation"] == 270
    assert (
        written("table", record)
        .decode()
        .splitlines()[1]
        .partition("  (declared")[0]
        .endswith("a.jpg  (turned by 270 degrees)")
    )


def test_a_crop_that_is_a_whole_image_has_no_rotation():
    record = replace(FLAGGED, faces=(replace(FACE, box=None),))
    assert csv_rows(written("csv", record))[0]["rotation"] == ""


@pytest.mark.parametrize("name", ['a"b,c.jpg', "a\nb\rc", "é\u2028.jpg", "b\udcff\udcfe.jpg", " x ", "a\r"])
def test_any_name_survives_csv_and_json(name):
    record = ImageRecord(name, Verdict.NO_FACE)
    row, other = csv_rows(written("csv", record, BROKEN))
    exact = base64.b64decode(row["path_bytes"]) or row["path"].encode()
    assert (exact, other["path"], other["path_bytes"]) == (os.fsencode(name), "b", "")
    image = json.loads(written("json", record))["images"][0]
    assert image["path"] == name
    raw = base64.b64decode(image["path_bytes"]) if "path_bytes" in image else name.encode()
    assert raw == os.fsencode(name)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"])
def test_text_that_a_spreadsheet_would_run_is_made_harmless_and_numbers_stay(start):
    record = ImageRecord(start + "x", Verdict.AI_GENERATED, detail=start + "1", faces=(FACE,))
    (row,) = csv_rows(written("csv", record))
    assert (row["path"], row["detail"]) == ("./" + start + "x", "'" + start + "1")
    assert float(row["log_likelihood"]) == -1234.57


@pytest.mark.parametrize("number", [-1e300, 1234567.8, 1e-9, -0.0, 123456789012345678.0])
def test_a_number_is_the_same_text_in_csv_and_json(number):
    face = FaceVerdict(
        0, None, number, 0.12345678, 1 / 3, Verdict.NOT_FLAGGED, "one-class", -number, None, number
    )
    record = ImageRecord("a", Verdict.NOT_FLAGGED, faces=(face,))
    (row,) = csv_rows(written("csv", record))
    (parsed,) = json.loads(written("json", record), parse_float=str)["images"][0]["faces"]
    for column in ("log_likelihood", "p_value", "p_ai_generated", "score", "p_smooth"):
        assert row[column] == parsed[column]
    assert math.isclose(float(row["log_likelihood"]), number, rel_tol=5e-6)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_left_out(number):
    box, values = FaceBox(number, 0, 1, 1, number), (number,) * 3
    face = FaceVerdict(0, box, *values, Verdict.NOT_FLAGGED, "one-class", *values)
    record = ImageRecord("a", Verdict.NOT_FLAGGED, faces=(face,))
    (parsed,) = json.loads(written("json", record))["images"][0]["faces"]
    names = ("x0", "detection_score", "log_likelihood", "p_value", "score", "threshold", "p_smooth")
    assert [parsed[name] for name in names] == [None] * 7


@pytest.mark.parametrize("score,shown", [(1.00000049, 1.0), (1.0000005001, 1.0000005001), (2.0000049, 2.0)])
def test_a_rounded_score_stays_on_its_side_of_the_threshold(score, shown):
    threshold = 1.0000005
    face = replace(FACE, score=score, threshold=threshold)
    (parsed,) = json.loads(written("json", replace(FLAGGED, faces=(face,))))["images"][0]["faces"]
    assert (parsed["score"], parsed["threshold"]) == (shown, threshold)
    assert (parsed["score"] > parsed["threshold"]) == (score > threshold)


def test_parquet_holds_the_rows_of_the_csv_with_types_run_and_summary(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    odd = ImageRecord("\udcff", Verdict.NO_FACE, detail="\udcfe")
    many = [FLAGGED] * (ROW_GROUP + 1)
    save(tmp_path / "v.parquet", *many, BROKEN, odd)
    with parquet.ParquetFile(tmp_path / "v.parquet") as file:
        assert file.num_row_groups == 2
        metadata, rows = file.metadata.metadata, file.read().to_pylist()
    assert json.loads(metadata[b"bladescan.run"])["detector"] == "d"
    assert json.loads(metadata[b"bladescan.summary"])["exit_code"] == 3
    as_text = {key: "" if value is None else str(value) for key, value in rows[0].items() if key in COLUMNS}
    assert as_text == csv_rows(written("csv", FLAGGED))[0] | {"declared_tool": "=a tool"}
    assert (rows[-1]["path"], rows[-1]["path_bytes"], rows[-2]["path_bytes"]) == ("\\xff", b"\xff", None)
    (row,) = csv_rows(written("csv", odd))
    assert (row["path"], row["detail"], row["path_bytes"]) == ("\\xff", "\\xfe", "/w==")
    assert len(rows) == len(many) + 2


def test_auto_takes_the_suffix_then_the_terminal():
    chosen = [
        choose_format(f"x{s}", "auto", False) for s in (".CSV", ".json", ".jsonl", ".ndjson", ".parquet")
    ]
    assert chosen == ["csv", "json", "jsonl", "jsonl", "parquet"]
    assert choose_format(None, "auto", True) == "table"
    assert choose_format(None, "auto", False) == choose_format("/dev/null", "auto", False) == "csv"
    with pytest.raises(UsageError, match=r"\.csv, \.json, \.jsonl"):
        choose_format("x.xlsx", "auto", False)
    with pytest.raises(UnknownNameError, match="'jsonl'"):
        choose_format(None, "jsonll", False)
    with pytest.raises(UsageError, match="terminal"):
        choose_format(None, "parquet", True)


def test_a_file_appears_only_when_complete_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "v.csv"
    path.write_text("old")
    path.chmod(0o640)
    with open_sink(str(path), "auto", RUN, stream=io.BytesIO()) as sink:
        sink.write(FLAGGED)
        assert path.read_text() == "old"
        sink.finish(SUMMARY)
    assert path.read_bytes() == written("csv", FLAGGED)
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["v.csv"]


def test_a_new_file_obeys_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        save(tmp_path / "v.csv")
    finally:
        os.umask(old)
    assert (tmp_path / "v.csv").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("format", OUTPUT_FORMATS)
def test_an_exception_leaves_the_old_file_and_no_other(tmp_path, format):
    path = tmp_path / "v"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), open_sink(str(path), format, RUN, stream=io.BytesIO()) as sink:
        sink.write(FLAGGED)
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["v"]


def test_an_interrupted_scan_is_kept_under_another_name(tmp_path):
    path = tmp_path / "v.jsonl"
    path.write_text("old")
    with open_sink(str(path), "auto", RUN, stream=io.BytesIO()) as sink:
        sink.write(FLAGGED)
        kept = sink.keep_partial(RunSummary(1, 1, complete=False, exit_code=130))
    assert kept == str(tmp_path / "v.partial.jsonl")
    assert path.read_text() == "old"
    last = (tmp_path / "v.partial.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["complete"] is False


def test_a_link_keeps_pointing_and_its_file_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "v.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("there/v.csv")
    save(tmp_path / "link.csv", FLAGGED)
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "there" / "v.csv").read_bytes() == written("csv", FLAGGED)


@pytest.mark.parametrize("name", ["missing/v.csv", "folder.csv", "file.csv/v.csv", "/proc/v.csv"])
def test_an_output_that_cannot_be_is_an_error_before_the_scan(tmp_path, name):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file.csv").touch()
    with pytest.raises(OutputError, match="cannot write") as caught:
        open_sink(os.path.join(tmp_path, name), "csv", RUN, stream=io.BytesIO())
    assert "\n" not in str(caught.value)


def test_a_full_device_is_one_clear_error():
    with pytest.raises(OutputError, match="cannot write /dev/full: No space left"):
        open_sink("/dev/full", "auto", RUN, stream=io.BytesIO())
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OutputError, match="standard output"):
        open_sink(None, "csv", RUN, stream=full)


def test_devices_and_pipes_are_written_and_not_replaced(tmp_path):
    save("/dev/null", FLAGGED)
    assert not os.path.isfile("/dev/null")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with subprocess.Popen(["cat", fifo], stdout=subprocess.PIPE) as reader:
        save(fifo, FLAGGED)
        assert reader.communicate()[0] == written("csv", FLAGGED)


@pytest.mark.parametrize("format", ["csv", "jsonl", "json", "table"])
def test_a_closed_pipe_comes_through_as_it_is(format):
    reader, writer = os.pipe()
    with open(writer, "wb", buffering=0) as stream:
        sink = open_sink(None, format, RUN, stream=stream)
        os.close(reader)
        with pytest.raises(BrokenPipeError):
            sink.write(FLAGGED)
        sink.abort()


def test_a_row_is_out_before_the_next_is_made():
    reader, writer = os.pipe()
    with open(writer, "wb") as stream, open(reader, "rb", buffering=0) as out:
        sink = open_sink(None, "csv", RUN, stream=stream)
        sink.write(BROKEN)
        assert out.read(4096).endswith(b"b,unreadable,empty,0 bytes" + b"," * (len(COLUMNS) - 4) + b"\n")


def test_a_killed_process_leaves_the_old_file(tmp_path):
    path = tmp_path / "v.csv"
    path.write_text("old")
    code = (
        "import sys, io, os, signal; sys.path.insert(0, sys.argv[2]); import tests.outputs.test_sink as t\n"
        "sink = t.open_sink(sys.argv[1], 'auto', t.RUN, stream=io.BytesIO())\n"
        "for _ in range(5000): sink.write(t.FLAGGED)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, path, ROOT], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
