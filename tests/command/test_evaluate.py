"""`bladescan evaluate` from folders to a report, on pictures that are face crops by decree."""

from __future__ import annotations

import json
import os
import resource
from dataclasses import fields
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from bladescan.base.errors import DataError, OutputError, UsageError
from bladescan.base.exit_codes import ExitCode
from bladescan.base.records import FaceBox
from bladescan.command.inputs import named_folders
from bladescan.evaluation.degradations import LARGEST_MATCH, VARIANTS
from bladescan.evaluation.image_sets import _face_sides
from bladescan.evaluation.job import EvaluateOptions, Evaluation, evaluate, save_evaluation
from bladescan.evaluation.markdown_report import as_markdown
from bladescan.evaluation.metrics import anomaly_scores
from bladescan.evaluation.report import UNKNOWN_MAKE, Metrics, Report
from bladescan.scanning.cut_faces import Faces
from bladescan.scanning.decoder_process import Decoded, DecoderSettings, Face
from bladescan.sources.listing import list_sources
from bladescan.sources.query import SourceQuery
from bladescan.sources.source import Source
from tests import ROOT

DOCS = (ROOT / "docs" / "evaluation.md").read_text()
SETS = {"photographs": (3, 12), "smooth": (3, 10), "rough": (40, 8)}


def pictures(folder: Path, side: int, n: int, format: str = "png") -> Path:
    """``n`` pictures with ``side`` random colours along each edge."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(side + n)
    for i in range(n):
        small = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
        small.resize((224, 224), Image.Resampling.BICUBIC).save(folder / f"{i:03}.{format}")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    top = tmp_path_factory.mktemp("images")
    made = {name: pictures(top / name, *what) for name, what in SETS.items()}
    (made["rough"] / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    pictures(top / "jpegs", 3, 10, "jpg")
    return made | {"jpegs": top / "jpegs"}


def options_of(folders: dict[str, Path], *generators: str) -> list[str | Path]:
    named = [part for name in generators for part in ("--ai-generated", f"{name}={folders[name]}")]
    return ["evaluate", "blades", "--photos", folders["photographs"], *named, "--faces", "none"]


@pytest.fixture(scope="module")
def evaluated(bladescan, folders, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "report"
    done = bladescan(*options_of(folders, "smooth", "rough"), "--match", "-o", out)
    assert done.returncode == 0, done.stderr.decode()
    return done, out


@pytest.fixture(scope="module")
def report(evaluated) -> Report:
    return msgspec.json.decode((evaluated[1] / "report.json").read_bytes(), type=Report)


def test_the_folder_holds_the_page_the_numbers_and_the_plots(evaluated):
    _, out = evaluated
    plots = {"roc.png", "scores.png", "tsne.png", "robustness.png"}
    assert {path.name for path in out.iterdir()} == {"report.json", "report.md", "report.html"} | plots
    for name in plots:
        with Image.open(out / name) as image:
            image.verify()


def test_the_main_table_is_printed_and_stands_on_the_page(evaluated):
    done, out = evaluated
    printed, page = done.stdout.decode(), (out / "report.md").read_text()
    assert printed.strip() in page
    assert "| smooth | 10 | " in printed and "| **mean** | 18 | " in printed
    assert f"report: {out / 'report.html'}" in done.stderr.decode()
    assert "![ROC curves](roc.png)" in page and "## How to read this" in page
    assert "| rough | 9 | 8 | 8 | 1 truncated |" in page


@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (1280, "dark"), (3840, "light")])
def test_the_page_for_a_browser_fits_any_window(evaluated, shown, width, scheme):
    shown.show(width, 900, scheme)
    shown.driver.get((evaluated[1] / "report.html").as_uri())
    assert shown.value("document.documentElement.scrollWidth") <= width
    assert shown.value("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert shown.value("document.images.length") >= 4
    if width == 1280:
        assert shown.violations() == []


def test_the_worst_mistakes_are_the_furthest_on_the_wrong_side(as_found):
    for head, found in as_found.report.heads.items():
        up = 1 if head == "binary" else -1  # higher is more suspicious
        mistakes = {m.group: m for m in as_found.mistakes if m.head == head and m.kind == "missed"}
        for name in as_found.report.ai_generated:
            suspicion = up * as_found.scored["none"].scores[head][name]
            missed = suspicion <= up * found.threshold
            assert (name in mistakes) == missed.any()
            if missed.any():
                told = mistakes[name]
                assert told.score == up * suspicion.min()
                assert (told.n_wrong, told.n_faces) == (missed.sum(), len(missed))
                assert told.crop.shape == (224, 224, 3)


def test_the_report_counts_what_was_there_and_why_the_rest_was_not_used(report):
    assert (report.photographs.files, report.photographs.faces) == (12, 12)
    rough = report.ai_generated["rough"]
    assert (rough.files, rough.with_face, rough.faces) == (9, 8, 8)
    assert sum(rough.skipped.values()) == 1
    assert report.match.side == LARGEST_MATCH and report.match.quality == 90
    assert report.face_finder == "none" and report.false_alarm == 0.05


def test_every_head_has_every_variant_and_every_generator(report):
    assert list(report.heads) == ["one-class", "binary"]
    for head in report.heads.values():
        assert list(head.variants) == list(VARIANTS)
        for variant in head.variants.values():
            assert set(variant.generators) == {"smooth", "rough"}
            assert variant.mean.n_photographs == 12 and variant.mean.n_ai_generated == 18
        assert sum(part.n_photographs for part in head.by_size) == 12
        assert [(part.name, part.n_photographs) for part in head.by_make] == [(UNKNOWN_MAKE, 12)]
    assert {name: set(found.generators) for name, found in report.baselines.items()} == {
        "files": {"smooth", "rough"},
        "compressed-size": {"smooth", "rough"},
    }


def run(folders: dict[str, Path], *generators: str, **changed) -> Evaluation:
    def sources(name: str) -> list[Source]:
        return list(list_sources(SourceQuery((str(folders[name]),)), stdin=None))

    asked = EvaluateOptions(detector="blades", decoder=DecoderSettings(faces="none"), n_draws=20, **changed)
    return evaluate(sources("photographs"), {name: sources(name) for name in generators}, asked)


@pytest.fixture(scope="module")
def as_found(folders) -> Evaluation:
    return run(folders, "smooth", "jpegs")


def test_the_metrics_are_those_of_the_raw_scores(as_found):
    for variant, scored in as_found.scored.items():
        for head, sets in scored.scores.items():
            turned = {name: anomaly_scores(head, raw) for name, raw in sets.items()}
            truth = np.r_[np.zeros(12), np.ones(10)]
            both = np.concatenate([turned["photographs"], turned["smooth"]])
            area = as_found.report.heads[head].variants[variant].generators["smooth"].auc.value
            assert area == pytest.approx(roc_auc_score(truth, both))


def test_what_is_flagged_is_what_lies_beyond_the_threshold(as_found):
    plain = as_found.scored["none"].scores
    for head, report in as_found.report.heads.items():
        for name, metrics in report.variants["none"].generators.items():
            raw = plain[head][name]
            beyond = raw < report.threshold if head == "one-class" else raw > report.threshold
            assert metrics.fnr.value == pytest.approx(1 - beyond.mean())


def test_the_false_alarm_rate_is_that_of_a_scan_of_the_same_photographs(bladescan, folders, as_found):
    for head, report in as_found.report.heads.items():
        done = bladescan(
            *("scan", folders["photographs"], "--model", "blades", "--faces", "none"),
            *("--head", head, "--format", "jsonl"),
        )
        rows = [json.loads(line) for line in done.stdout.splitlines()[1:-1]]
        flagged = sum(row["verdict"] == "ai-generated" for row in rows)
        assert report.variants["none"].mean.fpr.value == pytest.approx(flagged / 12)


def test_heads_stand_in_the_same_order_everywhere(as_found):
    for scored in as_found.scored.values():
        assert list(scored.scores) == list(as_found.report.heads) == ["one-class", "binary"]


def test_embeddings_are_kept_of_the_crops_as_they_are(as_found):
    assert as_found.scored["none"].embeddings["smooth"].shape == (10, 768)
    assert not as_found.scored["jpeg-75"].embeddings


def test_a_format_of_its_own_gives_a_generator_away_and_the_report_says_so(as_found):
    assert as_found.report.baselines["files"].generators["jpegs"].value == 1
    notes = [line for line in as_found.report.warnings if line.startswith("file size, dimensions")]
    assert notes and all("jpegs" in line for line in notes)
    assert any("--match" in line for line in as_found.report.warnings)


def test_the_same_folders_give_the_same_report(folders, as_found):
    assert run(folders, "smooth", "jpegs").report == as_found.report


def test_makes_are_read_where_there_is_exif(tmp_path, folders):
    exif = Image.Exif()
    exif[271] = "NIKON CORPORATION"
    folder = tmp_path / "photographs"
    folder.mkdir()
    for path in sorted(folders["photographs"].iterdir())[:6]:
        with Image.open(path) as image:
            image.save(folder / f"{path.stem}.jpg", exif=exif)
    found = run({**folders, "photographs": folder}, "smooth").report
    makes = found.heads["one-class"].by_make
    assert [(part.name, part.n_photographs) for part in makes] == [("Nikon", 6)]
    assert "| Nikon | 6 |" in as_markdown(found)


def test_without_exif_the_page_says_so_in_one_line(as_found):
    page = as_markdown(as_found.report)
    assert page.count("No photograph has EXIF that names a camera make") == 2
    assert "| make |" not in page and UNKNOWN_MAKE not in page


def test_every_number_after_every_degradation_is_on_the_page(as_found):
    page = as_markdown(as_found.report)
    for name, head in as_found.report.heads.items():
        for variant in list(VARIANTS)[1:]:
            _, _, after = page.partition(f"## The {name} head after {variant}\n")
            (row,) = [line for line in after.split("\n## ")[0].splitlines() if line.startswith("| jpegs |")]
            metrics = head.variants[variant].generators["jpegs"]
            for value in (metrics.tnr, metrics.fpr, metrics.fnr, metrics.f_score, metrics.accuracy):
                assert f" {value.value:.3f} ({value.low:.3f} to {value.high:.3f}) |" in row


def test_a_make_from_a_file_cannot_break_the_page(as_found):
    text = msgspec.json.encode(as_found.report).replace(b"unknown make", rb"a|b\n![x](http://y) <b>")
    page = as_markdown(msgspec.json.decode(text, type=Report))
    (row, _) = [line for line in page.splitlines() if "a\\|b" in line]
    assert row.startswith("| a\\|b !\\[x](http://y) \\<b> | 12 |")


def test_a_generator_may_have_a_name_that_is_not_utf8(bladescan, folders, tmp_path):
    named = os.fsencode(f"{folders['smooth']}")
    done = bladescan(
        *("evaluate", "--photos", folders["photographs"], "--faces", "none", "-o", tmp_path / "out"),
        *("--ai-generated", b"\xff|x=" + named),
    )
    assert done.returncode == 0, done.stderr.decode()
    found = msgspec.json.decode((tmp_path / "out" / "report.json").read_bytes(), type=Report)
    assert list(found.ai_generated) == [r"\udcff|x"]


def test_copies_of_a_file_are_one_file(tmp_path, folders, as_found):
    twice = tmp_path / "twice"
    twice.mkdir()
    for path in folders["smooth"].iterdir():
        for copy in "ab":
            (twice / f"{copy}{path.name}").write_bytes(path.read_bytes())
    found = run({**folders, "twice": twice}, "twice").report
    assert "10 of the files of twice are copies of each other: intervals count them as one file" in (
        found.warnings
    )
    measured = found.heads["one-class"].variants["none"].mean
    once = as_found.report.heads["one-class"].variants["none"].generators["smooth"]
    assert measured.n_ai_generated == 20 and measured.fnr == once.fnr
    assert measured.auc.value == pytest.approx(once.auc.value)


def test_a_disk_that_is_full_is_told_and_leaves_no_half_file(as_found, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(OutputError, match="cannot write .*report.json: File too large"):
            save_evaluation(as_found, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not any(tmp_path.iterdir())


def test_a_name_given_twice_has_two_folders_and_a_folder_may_hold_an_equals_sign():
    pairs = ["sdxl=a", "flux=x=1", "sdxl=b"]
    assert named_folders(pairs, "--ai-generated") == {"sdxl": ["a", "b"], "flux": ["x=1"]}


def test_no_name_breaks_a_table_of_the_page(as_found):
    text = msgspec.json.encode(as_found.report).replace(b'"smooth"', rb'"a|b\n\u001b[2Jc"')
    page = as_markdown(msgspec.json.decode(text, type=Report))
    rows = [line for line in page.splitlines() if "|b" in line]
    assert rows and all("a\\|b" in row and "\x1b" not in row and row.endswith("|") for row in rows)


def test_the_side_of_a_face_is_that_of_its_box_also_where_the_crop_was_cut_short():
    boxes = [FaceBox(0, 0, 180, 200, 0.9), None]
    decoded = [Decoded(width=220, height=300, faces=[Face(0, box)]) for box in boxes]
    crops, images = np.zeros((2, 224, 224, 3), np.uint8), np.arange(2)
    cut = Faces(crops, np.ones(2, int), np.array([220.0, 220.0]), images, ["a", "b"], decoded, {})
    assert list(_face_sides(cut)) == [200, 220]


def test_a_file_in_both_classes_is_told(folders, as_found):
    found = run({**folders, "same": folders["photographs"]}, "same").report
    assert found.warnings[0].startswith("12 of the files of same are also among the photographs")
    assert found.heads["one-class"].variants["none"].mean.auc.value == pytest.approx(0.5)
    assert not any("as well: no number" in line for line in as_found.report.warnings)


def test_too_few_images_are_an_error_that_says_what_was_skipped(tmp_path, folders):
    few = pictures(tmp_path / "few", 3, 4)
    (few / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match=r"few: 4 different images with a face \(skipped: 1 .*at least 5 "):
        run({**folders, "few": few}, "few")


def test_a_generator_of_which_nothing_is_there_is_said_before_a_picture_is_opened():
    with pytest.raises(DataError, match="smooth: none of 1 can be read; the first, gone.png: not-found"):
        evaluate([Source("never-opened.png")], {"smooth": ["gone.png"]}, EvaluateOptions(detector="blades"))


def test_no_generator_may_be_called_photographs(folders):
    with pytest.raises(UsageError, match="none of them called 'photographs'"):
        run(folders, "photographs")


def test_a_rate_that_the_detector_cannot_keep_is_an_error_before_the_work(folders):
    with pytest.raises(UsageError, match="a false-alarm rate of 1e-06 needs at least"):
        run(folders, "smooth", false_alarm=1e-6)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--ai-generated", "folder"], "expected NAME=DIR"),
        (["--ai-generated", "a=folder", "-o", "{full}"], "expected a new or empty folder"),
        (["--ai-generated", "a=folder", "-o", "{full}/x/y"], "no folder"),
        (["--ai-generated", "a={full}", "nowhere.onnx"], "nowhere.onnx: no such detector file"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(bladescan, tmp_path, arguments, said):
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").touch()
    given = [argument.format(full=full) for argument in arguments]
    output = [] if "-o" in given else ["-o", tmp_path / "out"]
    done = bladescan("evaluate", "--photos", full, *given, *output)
    assert done.returncode == ExitCode.FAILED
    (line,) = done.stderr.decode().splitlines()
    assert said in line


@pytest.mark.parametrize(
    "name", [*VARIANTS, *(f.name for f in fields(Metrics)), *(f.name for f in fields(Report))]
)
def test_every_variant_and_every_number_is_documented(name):
    assert f"`{name}`" in DOCS


def test_a_few_real_images_of_each_class(data_dir, bladescan, tmp_path):
    for kind, name in (("photographic", "ffhq"), ("ai-generated", "stylegan2-tpdne")):
        files = sorted(path for path in (data_dir / "evaluation" / kind / name).rglob("*") if path.is_file())
        (tmp_path / name).mkdir()
        for path in files[:12]:
            os.symlink(path, tmp_path / name / path.name)
    generator = f"stylegan2={tmp_path / 'stylegan2-tpdne'}"
    out = tmp_path / "out"
    done = bladescan(
        "evaluate", "blades", "--photos", tmp_path / "ffhq", "--ai-generated", generator, "-o", out
    )
    assert done.returncode == 0, done.stderr.decode()
    found = msgspec.json.decode((out / "report.json").read_bytes(), type=Report)
    assert found.photographs.with_face >= 10 and found.ai_generated["stylegan2"].with_face >= 10
    assert found.heads["one-class"].variants["none"].mean.fpr.value < 0.5
