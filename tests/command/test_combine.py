"""Detectors whose p-values are combined: made, scanned with, calibrated again, by the real command."""

from __future__ import annotations

import csv
import io
import json

import msgspec
import numpy as np
import pytest

import bladescan as library
from bladescan.base.exit_codes import ExitCode
from bladescan.command.describe import read_manifest
from bladescan.detectors.combined_file import read_combined
from bladescan.detectors.manifest import FaceRule
from bladescan.detectors.onnx_metadata import replace_manifest
from tests.command.test_calibrate import pictures
from tests.once import exported

pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return pictures(tmp_path_factory.mktemp("own") / "photographs", 40, 6)


@pytest.fixture(scope="module")
def parts(own, tmp_path_factory):
    """Two tiny detectors calibrated on the pictures, one that cuts faces out otherwise, one of pictures."""
    folder = tmp_path_factory.mktemp("parts")
    for name, detector in (("a", "tiny"), ("b", "second")):
        (folder / f"{name}.onnx").write_bytes(exported(detector))
        asked = library.CalibrateOptions(
            folder / f"{name}.onnx", decoder=library.DecoderSettings(faces="none"), name=name
        )
        library.save_calibrated(library.calibrate([own], asked), folder / f"{name}.onnx")
    third = (folder / "b.onnx").read_bytes()
    manifest = read_manifest(folder / "b.onnx")
    changes = {"c": {"face_rule": FaceRule(scale=1.7, resize="bilinear")}, "d": {"subject": "image"}}
    for name, changed in changes.items():
        new = msgspec.structs.replace(manifest, name=name, **changed)
        (folder / f"{name}.onnx").write_bytes(replace_manifest(third, new, where=name))
    return folder


@pytest.fixture(scope="module")
def both(bladescan, own, parts, tmp_path_factory):
    path = tmp_path_factory.mktemp("combined") / "both.combined"
    done = bladescan(
        "combine", parts / "a.onnx", parts / "b.onnx", "--photos", own, "--faces", "none", "-o", path
    )
    assert done.returncode == 0, done.stderr.decode()
    return path, done


def scan(run, folder, *options):
    done = run("scan", folder, "--faces", "none", "--format", "jsonl", *options)
    assert done.returncode in (0, 1), done.stderr.decode()
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return lines[0], [face for line in lines if line["type"] == "image" for face in line["faces"]]


def test_the_asked_rate_is_flagged_and_each_detector_speaks_for_itself(bladescan, own, parts, both):
    run, found = scan(bladescan, own, "--model", both[0], "--false-alarm", "0.2")
    assert (run["head"], run["components"], run["combined_by"]) == ("combined", ["a", "b"], "stouffer")
    flagged = [face["verdict"] for face in found].count("ai-generated")
    # Of new photographs about 8; these calibrated it, and count themselves in both detectors' p-values.
    assert 4 <= flagged <= 8
    for name, head in (("a", "one-class"), ("b", "binary")):
        _, alone = scan(bladescan, own, "--model", parts / f"{name}.onnx", "--head", head)
        assert [face["components"][name]["score"] for face in found] == [face["score"] for face in alone]
        assert [face["components"][name]["p_value"] for face in found] == [face["p_value"] for face in alone]


def test_what_the_photographs_say_of_the_pair_is_told_and_kept(both, in_process):
    assert "a and b" in both[1].stdout.decode() and "rank_correlation" in both[1].stdout.decode()
    said = in_process("info", both[0])
    assert said.exit_code == 0
    for words in ("seen_together: true", "rule: stouffer", "rank_correlation", "name: both"):
        assert words in said.stdout


def test_its_detectors_lie_beside_it(both):
    assert sorted(path.name for path in both[0].parent.iterdir()) == ["a.onnx", "b.onnx", "both.combined"]


def test_several_models_have_their_own_columns_in_every_format(bladescan, own, parts, tmp_path):
    models = ["--model", parts / "a.onnx", "--model", parts / "b.onnx", "--combine", "min"]
    done = bladescan("scan", own, "--faces", "none", *models, "--workers", "2", "--batch-size", "3")
    assert done.returncode in (0, 1) and b"holds whatever it is" in done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode())))
    own_columns = ["a_score", "a_p_value", "b_score", "b_p_value"]
    assert list(rows[0])[-5:] == [*own_columns, "path_bytes"]
    run, faces = scan(bladescan, own, *models)
    assert run["detector"] == "a+b" and run["backend"] == "onnx"
    for row, face in zip(rows, faces, strict=True):
        assert float(row["p_value"]) == face["p_value"]
        for column in own_columns:
            name, number = column.split("_", 1)
            assert float(row[column]) == face["components"][name][number]
        # Bonferroni, rounded up to 1 / 20: 2 / 41 is the least that forty photographs each can show.
        least = min(face["components"][name]["p_value"] for name in "ab")
        assert face["p_value"] == pytest.approx(min(np.ceil(least * 40 - 1e-4) / 20, 1.0), abs=1e-6)


def test_parquet_has_the_columns_too(own, parts, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "v.parquet"
    options = library.ScanOptions(
        (parts / "a.onnx", parts / "b.onnx"), "stouffer", decoder=library.DecoderSettings(faces="none")
    )
    query = library.SourceQuery((str(own / "000.png"),))
    library.run_scan(options, query, library.OutputOptions(str(path)))
    table = parquet.read_table(path)
    assert table.column_names[-5:] == ["a_score", "a_p_value", "b_score", "b_p_value", "path_bytes"]
    assert str(table.schema.field("b_p_value").type) == "double"


def test_detectors_that_cut_faces_out_otherwise_see_what_they_would_see_alone(parts, samples):
    """With their views, which are cut by both rules as well."""

    def scanned(*models, combine=None, head="auto"):
        decision = library.Decision(head, 0.2, stability=0.75)
        with library.Scanner(library.ScanOptions(models, combine, decision=decision)) as scanner:
            return list(scanner.scan([str(samples / "portrait.jpg")]))[0].faces

    together = scanned(parts / "a.onnx", parts / "c.onnx", combine="stouffer")
    assert together
    for name, head in (("a", "one-class"), ("c", "binary")):
        alone = scanned(parts / f"{name}.onnx", head=head)
        mine = [next(one for one in face.components if one.name == name) for face in together]
        assert [one.score for one in mine] == pytest.approx([face.score for face in alone], rel=1e-5)
        assert [one.p_value for one in mine] == [face.p_value for face in alone]


def test_the_heads_of_one_detector_are_combined_too(own, parts):
    options = library.ScanOptions(parts / "a.onnx", "min", decoder=library.DecoderSettings(faces="none"))
    with library.Scanner(options) as scanner:
        (record,) = scanner.scan([str(own / "000.png")])
    (face,) = record.faces
    assert [one.name for one in face.components] == ["one-class", "binary"]
    assert face.log_likelihood is not None and face.p_ai_generated is not None and face.head == "combined"


def test_a_scan_is_continued_only_with_the_same_detectors_and_rule(parts):
    def settings(*models, combine="min", head="auto"):
        options = library.ScanOptions(models, combine, decision=library.Decision(head, 0.2))
        with library.Scanner(options) as scanner:
            return scanner.deciding().digest

    a, b, c = (parts / f"{name}.onnx" for name in "abc")
    assert settings(a, b) == settings(a, b)
    others = [settings(a, b, combine="stouffer"), settings(a, c), settings(b, a), settings(a, b, head="all")]
    assert len({settings(a, b), *others}) == 5


def test_it_is_calibrated_again_and_takes_its_detectors_along(in_process, own, both, tmp_path):
    path = tmp_path / "again.combined"
    arguments = ["--photos", own, "--faces", "none", "--false-alarm", "0.1", "-o", path]
    done = in_process("calibrate", both[0], *arguments)
    assert done.exit_code == 0, done.stderr
    old, new = read_combined(both[0]), read_combined(path)
    assert new.parts == old.parts and new.manifest.name == "again"
    assert new.manifest.default_false_alarm == 0.1
    assert new.manifest.combination == old.manifest.combination  # the same photographs
    assert new.manifest.heads == old.manifest.heads


@pytest.mark.parametrize(
    "arguments,said",
    [
        (["--model", "{a}", "--model", "{b}"], "several detectors need --combine"),
        (["--model", "{a}", "--model", "{b}", "--combine", "fisher"], "unknown rule of combination"),
        (["--model", "{a}", "--model", "{a}", "--combine", "min"], "a.onnx and a.onnx are the same detector"),
        (["--model", "{b}", "--combine", "min"], "'b' gives one"),
        (["--model", "{a}", "--model", "{d}", "--combine", "min"], "only scores of faces can be combined"),
        (["--model", "{a}", "--model", "{both}", "--combine", "min"], "both.combined is combined already"),
        (
            ["--model", "{a}", "--model", "{b}", "--combine", "min", "--head", "one-class"],
            "no one-class head",
        ),
        (["--model", "{a}", "--model", "{gone}", "--combine", "min"], "no such detector file"),
        (["--model", "{a}", "--model", "{b}", "--combine", "min", "--false-alarm", "0.01"], "at least 99"),
    ],
)
def test_what_cannot_be_combined_is_one_line_and_no_row(in_process, own, parts, both, arguments, said):
    places = {name: parts / f"{name}.onnx" for name in ("a", "b", "d", "gone")} | {"both": both[0]}
    done = in_process("scan", own, "--faces", "none", *(one.format(**places) for one in arguments))
    assert done.exit_code == ExitCode.FAILED and not done.stdout
    assert said in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "change,said",
    [
        (lambda text: text[: len(text) // 2], "not a bladescan combination"),
        (lambda text: text.replace(b'"a.onnx"', b'"../a.onnx"'), "no name of a detector file"),
        (lambda text: text.replace(b'"a.onnx"', b'"b.onnx"'), "names a detector twice"),
        (lambda text: text.replace(b'"a.onnx"', b'"gone.onnx"'), "part gone.onnx cannot be read"),
        (lambda text: text.replace(b'"head": "binary"', b'"head": "one-class"'), "has no one-class head"),
    ],
)
def test_a_broken_file_is_one_line(both, change, said):
    path = both[0].parent / "broken.combined"
    path.write_bytes(change(both[0].read_bytes()))
    try:
        with pytest.raises(library.DetectorError, match=f"^broken.combined: .*{said}"):
            library.open_detector(path)
    finally:
        path.unlink()
