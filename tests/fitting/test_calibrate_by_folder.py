"""Combined scores calibrated by folder: their parts keep their calibrations, which the promise needs."""

import msgspec
import numpy as np
import pytest
from bladescan_backends.fake import FakeBackend, fake_manifest
from PIL import Image

from bladescan.base.errors import UsageError
from bladescan.detectors.calibration import p_values
from bladescan.detectors.combination import check_reachable, combined_scores
from bladescan.detectors.manifest import Combination, Component
from bladescan.fitting.calibrate_job import CalibrateOptions, calibrate_backend
from bladescan.runtimes.combined import CombinedBackend
from bladescan.scanning.decoder_process import DecoderSettings

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
