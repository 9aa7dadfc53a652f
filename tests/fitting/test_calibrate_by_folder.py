"""Calibrations by folder of what is combined, and of a fit, which holds out whole folders."""

import msgspec
import numpy as np
import pytest
from bladescan_backends.fake import FakeBackend, fake_manifest
from PIL import Image
from typer.testing import CliRunner

from bladescan.base.errors import UsageError
from bladescan.command.app import app
from bladescan.command.describe import read_manifest
from bladescan.detectors.calibration import p_values
from bladescan.detectors.combination import check_reachable, combined_scores
from bladescan.detectors.manifest import Combination, Component
from bladescan.fitting.calibrate_job import CalibrateOptions, calibrate_backend
from bladescan.heads.detector import save_detector
from bladescan.runtimes.combined import CombinedBackend
from bladescan.scanning.decoder_process import DecoderSettings
from tests.tiny import bare_encoder

N_FOLDERS = 10


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    root = tmp_path_factory.mktemp("combined") / "photographs"
    rng = np.random.default_rng(0)
    for k in range(N_FOLDERS):
        (root / f"{k}").mkdir(parents=True)
        for i in range(1 + k % 2):
            small = rng.integers(0, 100 + 15 * k, (9, 9, 3), dtype=np.uint8)
            Image.fromarray(small).resize((224, 224)).save(root / f"{k}" / f"{i}.png")
    return root


def backend():
    manifest = fake_manifest()
    components = tuple(Component(name, name, head) for name, head in manifest.heads.items())
    combination = Combination("stouffer", components)
    heads = {**manifest.heads, "combined": manifest.heads["one-class"]}
    made = msgspec.structs.replace(manifest, heads=heads, combination=combination)
    return CombinedBackend(made, [FakeBackend()])


def options(rate):
    decoder = DecoderSettings(faces="none")
    return CalibrateOptions(false_alarm=rate, by="folder", decoder=decoder)


def test_the_combined_head_is_calibrated_by_folder_and_its_parts_are_as_they_were(photographs):
    opened = backend()
    manifest, report = calibrate_backend(opened, photographs, options(0.2))
    assert manifest.combination == opened.manifest.combination
    assert report["by"] == "folder" and report["n_folders"] == N_FOLDERS
    crops = np.stack([np.asarray(Image.open(path)) for path in sorted(photographs.rglob("*.png"))])
    scores = combined_scores(manifest.combination, opened.score(crops).components)
    names = np.asarray([path.parent.name for path in sorted(photographs.rglob("*.png"))])
    head = manifest.heads["combined"]
    for score in scores:
        shares = [(scores[names == name] <= score).mean() for name in np.unique(names)]
        assert p_values(head, score) == pytest.approx((1 + sum(shares)) / (N_FOLDERS + 1))
    assert all(one.by == "folder" for one in manifest.heads.values())


def test_a_rate_below_that_of_its_folders_is_refused(photographs):
    manifest, _ = calibrate_backend(backend(), photographs, options(0.2))
    with pytest.raises(UsageError, match="stouffer' on 10 folders: ask for 0.091 or more, or calibrate on"):
        check_reachable(manifest.combination, manifest.heads["combined"], 0.05)


def test_a_fit_holds_out_whole_folders_or_takes_those_that_calibrate(photographs, tmp_path):
    save_detector(bare_encoder(), tmp_path / "encoder.safetensors")
    (photographs / "3" / "more").mkdir()
    (photographs / "3" / "1.png").rename(photographs / "3" / "more" / "1.png")  # still of folder 3
    options = ["--encoder", str(tmp_path / "encoder.safetensors"), "--backend", "pytorch", "--faces", "none"]
    options += ["--components", "1", "--covariance", "diag", "--copies", "0", "--by", "folder"]
    path = tmp_path / "fitted.safetensors"

    def fitted(*more):
        done = CliRunner().invoke(
            app, ["fit", "--photos", str(photographs), *options, *more, "-o", str(path)]
        )
        return done, read_manifest(path).heads["one-class"] if done.exit_code == 0 else None

    done, head = fitted("--false-alarm", "0.3", "--held-out", "0.4")
    assert done.exit_code == 0, done.output
    of = {f"{k}": 1 + k % 2 for k in range(N_FOLDERS)}
    assert head.by == "folder" and head.n_folders >= 3
    shares = np.unique(np.round(np.diff(head.steps) * (head.n_folders + 1), 9))
    assert set(shares) <= {0.5, 1.0} and head.n_held_out <= 2 * head.n_folders < sum(of.values())
    others = tmp_path / "others"
    for k in range(4):
        (others / f"{k}").mkdir(parents=True)
        small = np.random.default_rng(100 + k).integers(0, 256, (9, 9, 3), dtype=np.uint8)
        Image.fromarray(small).resize((224, 224)).save(others / f"{k}" / "0.png")
    done, head = fitted("--false-alarm", "0.2", "--calibrate", str(others))
    assert done.exit_code == 0, done.output
    assert (head.n_folders, head.n_held_out) == (4, 4)
