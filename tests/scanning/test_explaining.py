"""What a flagged face's score rests on: the map finds what counts, and nothing that was decided changes."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from bladescan_backends.fake import FakeBackend
from PIL import Image

from bladescan.base.records import ROTATIONS, FaceBox, FaceVerdict, Scores, Verdict
from bladescan.detectors.manifest import FACE_RULE
from bladescan.detectors.shipped import shipped_detector
from bladescan.detectors.suspicion import suspicion
from bladescan.faces.crops import crop_face, part_in_picture
from bladescan.faces.views import VIEWS
from bladescan.ledger.entries import decode, encode
from bladescan.outputs.csv_format import CsvFormat
from bladescan.outputs.json_values import image_fields
from bladescan.outputs.parquet_format import ParquetFormat
from bladescan.outputs.run import RunInfo, RunSummary
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.registry import choose_plugin
from bladescan.scanning.decoder_process import DecoderSettings
from bladescan.scanning.explainer import RUNS, Explainer, SeenFace, described
from bladescan.scanning.explaining import Explaining, with_flips
from bladescan.scanning.occlusion import (
    GRID,
    N_COPIES,
    cell_map,
    cover,
    covered_copies,
    strongest_window,
    whole_windows,
    windows,
)
from bladescan.scanning.scan_options import Decision, ScanOptions
from bladescan.scanning.scanner import Scanner
from tests.tiny import crops

ROWS, COLUMNS = slice(5, 7), slice(0, 2)
NO_VIEWS = np.empty((0, 224, 224, 3), np.uint8)
FACE = FaceVerdict(0, None, 40.0, 0.9, 0.02, Verdict.AI_GENERATED, "binary", 0.0, -9.0, 0.02)


class Patch(FakeBackend):
    """Its log-odds are the contrast of four cells of the crop, in grey levels over 10."""

    runs = 0

    def score(self, crops):
        self.runs += len(crops)
        patch = crops[:, 32 * 5 :, : 32 * 2].astype(np.float64)
        p = 1.0 / (1.0 + np.exp(-patch.std((1, 2, 3)) / 10))
        return Scores(np.full(len(crops), 40.0), p, self.embed(crops))


def explained(backend, crop, views=NO_VIEWS, batch_size=8):
    score = float(suspicion(-backend.score(crop[None]).p_ai_generated, "binary")[0])
    explainer = Explainer(backend, "binary", FACE_RULE, batch_size)
    seen = SeenFace(crop, backend.embed(crop[None])[0], views, (448, 224))
    return explainer.explain(replace(FACE, score=score), seen)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_map_finds_the_cells_that_alone_make_the_score(seed):
    backend = Patch()
    found = explained(backend, crops(1, seed)[0]).explanation
    cells = np.array(found.grid)
    inside = np.zeros((GRID, GRID), bool)
    inside[ROWS, COLUMNS] = True
    # A window that covers half of them adds less than half: the contrast is no sum over cells.
    assert cells[inside].min() > 2 * np.abs(cells[~inside]).max()
    x0, y0, x1, y1 = found.region  # in a picture twice as wide as the crop
    assert (x0, y0, x1, y1) == pytest.approx((0, 32 * 4, 2 * 32 * 3, 32 * 7))
    assert found.where == "lower left"
    assert backend.runs == 1 + N_COPIES


def test_a_map_is_the_least_of_squares_and_penalty():
    falls = np.random.default_rng(3).normal(size=N_COPIES)
    cells = cell_map(falls).reshape(-1)
    for k in range(N_COPIES):  # the derivative by each cell is 0
        slope = cells[k]
        for window, fall in zip(windows(), falls, strict=True):
            covered = window.reshape(-1)
            slope += covered[k] * (cells[covered].sum() - fall)
        assert abs(slope) < 1e-9


def test_what_adds_up_is_found_again():
    truth = np.zeros((GRID, GRID))
    truth[2, 5], truth[6, 0] = 3.0, -2.0
    falls = np.array([truth[window].sum() for window in windows()])
    cells = cell_map(falls)
    assert np.unravel_index(cells.argmax(), cells.shape) == (2, 5)
    assert np.unravel_index(cells.argmin(), cells.shape) == (6, 0)
    assert windows()[strongest_window(cells)][2, 5]


def test_a_window_covers_its_cells_alone():
    crop = crops(1)[0]
    copies = covered_copies(crop)
    assert [int(window.sum()) for window in windows()[[0, 1, 8, 48]]] == [4, 6, 9, 4]
    assert len(whole_windows()) == 25 and all(windows()[i].sum() == 9 for i in whole_windows())
    for copy, window in zip(copies, windows(), strict=True):
        changed = (copy != crop).any(2).reshape(GRID, 32, GRID, 32).mean((1, 3))
        assert (changed[window] > 0.9).all() and not changed[~window].any()


@pytest.mark.parametrize("rotation", ROTATIONS)
@pytest.mark.parametrize("corners", [(60, 50, 130, 120), (2, 3, 90, 70)])  # the second at the border
def test_a_region_of_the_crop_is_found_in_the_picture(rotation, corners):
    box, size = FaceBox(*corners, score=1.0, rotation=rotation), (200, 180)
    shares = (1 / 7, 3 / 7, 4 / 7, 6 / 7)
    x0, y0, x1, y1 = (round(corner) for corner in part_in_picture(box, size, FACE_RULE, shares))
    picture = np.zeros((180, 200, 3), np.uint8)
    picture[y0:y1, x0:x1] = 255
    crop = crop_face(picture, box)[..., 0] > 127
    expected = np.zeros((224, 224), bool)
    expected[96:192, 32:128] = True
    assert (crop != expected).mean() < 0.02


def test_a_region_is_called_by_its_place_and_by_the_landmarks_in_it():
    assert described(3, 3, FACE, (0, 0, 9, 9)) == "centre"
    assert described(1, 5, FACE, (0, 0, 9, 9)) == "upper right"
    assert described(5, 4, FACE, (0, 0, 9, 9)) == "lower middle"
    assert described(2, 4, FACE, (0, 0, 9, 9)) == "centre"
    points = ((5, 5), (20, 5), (12, 12), (6, 18), (18, 18))
    face = replace(FACE, box=FaceBox(0, 0, 24, 24, 0.9, points))
    assert described(3, 1, face, (4, 4, 13, 13)) == "middle left (left eye, nose)"


def test_views_that_are_judged_otherwise_are_named_and_only_flagged_faces_keep_an_explanation():
    found = explained(Patch(), crops(1)[0], crops(len(VIEWS), seed=5))
    assert len(found.views) == len(VIEWS) and found.explanation.stability is None
    views = (0.01, 0.05, 0.051, 0.5, 0.01, 0.01)
    told = with_flips(replace(found, views=views), 0.05).explanation
    assert told.flips == (VIEWS[2], VIEWS[3]) and told.stability == 4 / 6
    assert with_flips(replace(found, verdict=Verdict.UNSURE), 0.05).explanation is None


def test_photographs_are_counted_by_both_heads():
    told = explained(Patch(), crops(1)[0]).explanation
    # 99 photographs; a p-value of 0.02 has this face and one of them; 0 to 40 are at most as likely.
    assert (told.n_photographs, told.n_as_suspicious, told.n_as_unlikely) == (99, 1, 41)


def test_a_score_that_is_not_finite_has_no_explanation():
    class Broken(Patch):
        def score(self, crops):
            return super().score(crops)._replace(p_ai_generated=np.full(len(crops), np.nan))

    assert Explainer(Broken(), "binary", FACE_RULE, 8).explain(
        FACE, SeenFace(crops(1)[0], np.ones(768, np.float32), NO_VIEWS, (224, 224))
    ) == replace(FACE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three images, whose p-values are 0.16, 0.32 and 0.52."""
    folder = tmp_path_factory.mktemp("explain")
    for side in (300, 200, 12):
        pixels = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((300, 250), Image.Resampling.BICUBIC)
        image.save(folder / f"{side:03}.png")
    return str(folder)


RATE = 0.35


def options(batch_size=8, explain=True, n_workers=1, **decision):
    return ScanOptions(
        model="blades",
        decision=Decision("binary", **(decision or {"false_alarm": RATE})),
        decoder=DecoderSettings(faces="none"),
        explain=explain,
        batch_size=batch_size,
        n_workers=n_workers,
    )


def scanned(folder, **more):
    with Scanner(options(**more)) as scanner:
        return list(scanner.scan(folder))


@pytest.fixture(scope="module")
def records(folder):
    """The three images explained."""
    found = scanned(folder)
    assert sorted(face.verdict for record in found for face in record.faces) == [
        Verdict.AI_GENERATED,
        Verdict.AI_GENERATED,
        Verdict.NOT_FLAGGED,
    ]
    return found


def test_only_flagged_faces_are_explained_and_no_verdict_changes(folder, records):
    kept = [replace(r, faces=tuple(replace(f, explanation=None, views=()) for f in r.faces)) for r in records]
    assert kept == scanned(folder, explain=False)
    for record in records:
        for face in record.faces:
            assert (face.explanation is not None) == (face.verdict is Verdict.AI_GENERATED)
            if face.explanation is not None:
                assert len(face.views) == len(VIEWS) == RUNS - N_COPIES
                x0, y0, x1, y1 = face.explanation.region
                assert 0 <= x0 < x1 <= 300 and 0 <= y0 < y1 <= 250


def test_an_explanation_is_the_same_whatever_the_batch_and_the_workers(folder, records):
    assert scanned(folder, batch_size=3, n_workers=2) == records


def test_under_a_discovery_rate_the_batch_decides_which_are_explained(folder, records):
    with Scanner(options(fdr=0.55)) as scanner:  # flags all three; the detector's own rate would flag none
        found = list(scanner.scan(folder))
        judge = replace(scanner._pipeline.judge, rate=RATE)
    told = [record.faces[0].explanation for record in found]
    assert all(one.stability is not None for one in told)
    again = [judge.again(record).faces[0].explanation for record in found]
    assert again == [record.faces[0].explanation for record in records]
    assert Explaining(0.5).looks_at(replace(FACE, p_value=0.5, verdict=Verdict.NOT_FLAGGED))
    assert ScanOptions(decision=Decision(fdr=0.1, storey=True), explain=True).explaining() == Explaining(1.0)
    assert ScanOptions(explain=True).explaining() == Explaining() and ScanOptions().explaining() is None


def test_a_ledger_keeps_an_explanation(records):
    flagged = next(record for record in records if record.faces[0].explanation is not None)
    again = decode(encode(flagged), flagged.source)
    assert replace(again, cost=None) == replace(flagged, cost=None)


def test_every_format_says_the_same(records, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    run = RunInfo("1", "d", "ab", "onnx", "cpu", "none", "one-class", 0.05, None, None, "")
    told = records
    in_json = [face["explanation"] for record in told for face in image_fields(record)["faces"]]
    assert {type(one) for one in in_json} == {dict, type(None)}
    made = CsvFormat(run, False)
    text = made.begin() + b"".join(map(made.record, told))
    in_csv = [row["explanation"] for row in csv.DictReader(io.StringIO(text.decode()))]
    table = ParquetFormat(run, False)
    pieces = [table.begin(), *map(table.record, told), table.end(RunSummary(4, 4))]
    (tmp_path / "v.parquet").write_bytes(b"".join(pieces))
    in_parquet = parquet.read_table(tmp_path / "v.parquet")["explanation"].to_pylist()
    assert [json.loads(one) if one else None for one in in_csv] == in_json
    assert [one and json.loads(one) for one in in_parquet] == in_json
    one = next(filter(None, in_json))
    assert np.shape(one["grid"]) == (GRID, GRID) and one["n_photographs"] > 0


def test_covering_what_is_marked_moves_the_score_of_real_faces_more(data_dir):
    """The marked window is covered with another fill than it was found with, and so are all others."""
    detector = shipped_detector("fast", (".onnx",))
    backend = choose_plugin("auto", detector).open(detector, BackendSettings(threads=1))
    paths = sorted((data_dir / "ai-generated-train" / "sdxl").iterdir())[::50]
    marked, others = [], []
    for path in paths:
        with Image.open(path) as image:
            crop = np.asarray(image.convert("RGB").resize((224, 224)))
        cells = np.array(explained(backend, crop).explanation.grid)
        whole = whole_windows()
        colour = np.rint(crop.mean((0, 1))).astype(np.uint8)
        copies = cover(crop, colour, np.concatenate([np.zeros((1, GRID, GRID), bool), windows()[whole]]))
        scores = suspicion(-backend.score(copies).p_ai_generated, "binary")
        falls = scores[0] - scores[1:]
        place = int(np.searchsorted(whole, strongest_window(cells)))
        marked.append(falls[place])
        others.append(np.delete(falls, place).mean())
    backend.close()
    assert len(paths) >= 3 and np.mean(marked) > 1.5 * np.mean(others) > 0
