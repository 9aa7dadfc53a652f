from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from bladescan.base.errors import DataError, DetectorError, UsageError
from bladescan.detectors.calibration import false_alarm_threshold
from bladescan.detectors.manifest import FaceRule
from bladescan.fitting.import_job import Imported, ImportOptions, run_import
from bladescan.fitting.job import load_encoder
from bladescan.fitting.released_checkpoints import KINDS, read_checkpoint
from bladescan.heads.classifier import Classifier
from bladescan.heads.detector import load_detector
from bladescan.networks.encoders import new_vision_encoder
from bladescan.networks.text_encoders import TextEncoder
from bladescan.networks.text_weights import load_text_weights
from bladescan.scanning.decoder_process import DecoderSettings
from bladescan.scanning.scan_options import ScanOptions
from bladescan.scanning.scanner import Scanner
from bladescan.sources.source import Source
from bladescan.training.runs import ENCODER_FILE, load_encoder_run

TEXT = {
    "token_embedding.weight": (49408, 512),
    "positional_embedding": (77, 512),
    "ln_final.weight": (512,),
    "ln_final.bias": (512,),
    "text_projection": (512, 1024),
    "text_fc.weight": (768, 1024),
    "text_fc.bias": (768,),
    "logit_scale": (),
}
BLOCK = {
    "attn.in_proj_weight": (1536, 512),
    "attn.in_proj_bias": (1536,),
    "attn.out_proj.weight": (512, 512),
    "attn.out_proj.bias": (512,),
    "ln_1.weight": (512,),
    "ln_1.bias": (512,),
    "mlp.c_fc.weight": (2048, 512),
    "mlp.c_fc.bias": (2048,),
    "mlp.c_proj.weight": (512, 2048),
    "mlp.c_proj.bias": (512,),
    "ln_2.weight": (512,),
    "ln_2.bias": (512,),
}
CLASSIFIER = {"fc1.weight": (1536, 768), "fc1.bias": (1536,), "fc2.weight": (2, 1536), "fc2.bias": (2,)}
SCALAR_HEADS = ("fc_iso", "fc_av", "fc_et", "fc_fl", "fc_face")


def published(kind: str, vision: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with the names and shapes of METHOD 6: one number a tensor but for the vision encoder.

    An expanded number takes no room in the file, whatever its shape.
    """
    prefix = {"oc": "model.", "bc": "model.model.", "aigfd-exif": "model."}[kind]
    shapes: dict[str, tuple[int, ...]] = {}
    if kind == "aigfd-exif":
        for head in SCALAR_HEADS:
            shapes |= {f"{head}.weight": (1, 768), f"{head}.bias": (1,)}
    else:
        blocks = {
            f"transformer.resblocks.{n}.{key}": shape for n in range(12) for key, shape in BLOCK.items()
        }
        shapes |= {prefix + key: shape for key, shape in (TEXT | blocks).items()}
    if kind == "bc":
        shapes |= CLASSIFIER
    state = {key: value_of(index).expand(shape) for index, (key, shape) in enumerate(shapes.items())}
    return state | {f"{prefix}visual.{key}": value for key, value in vision.items()}


def value_of(index: int) -> Tensor:
    return torch.tensor(index / 256, dtype=torch.float16)  # exact, and another for every tensor


@pytest.fixture(scope="module")
def vision() -> dict[str, Tensor]:
    """A ResNet-50 in half precision, batch-norm counters and all, as torch saves it."""
    torch.manual_seed(0)
    state = new_vision_encoder("resnet50", embedding_dim=768).state_dict()
    assert any(key.endswith("num_batches_tracked") for key in state)
    return {key: value.half() if value.is_floating_point() else value for key, value in state.items()}


@pytest.fixture(scope="module")
def flat(vision) -> dict[str, Tensor]:
    """The same names and shapes with one number a tensor."""
    return {
        key: (value_of(index) if value.is_floating_point() else value).expand(value.shape)
        for index, (key, value) in enumerate(vision.items())
    }


def saved(state: dict[str, Tensor], path: Path) -> Path:
    """Written as the authors' training code writes it."""
    torch.save({"epoch": 3, "model": state, "optimizer": {"state": {}, "param_groups": []}}, path)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_of_a_published_checkpoint_arrives_unchanged(tmp_path, flat, kind):
    state = published(kind, flat)
    found = read_checkpoint(saved(state, tmp_path / "x.pth"))
    prefix = KINDS[kind].model
    theirs = {f"{prefix}visual.{key}": value for key, value in found.vision.items()}
    if kind == "aigfd-exif":
        theirs |= found.head
    else:
        theirs |= {prefix + key.removeprefix("text."): value for key, value in found.head.items()}
    theirs |= found.classifier
    assert found.kind == kind and found.passed_over == ()
    assert set(theirs) == {key for key in state if not key.endswith("num_batches_tracked")}
    for key, value in theirs.items():
        assert value.dtype == torch.float32 and value.shape == state[key].shape
        assert bool((value == state[key].flatten()[0]).all()), key


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder for runs of the published size, gone when the tests are."""
    with tempfile.TemporaryDirectory(prefix="bladescan-test-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def oc(place, vision) -> Imported:
    return run_import(ImportOptions(saved(published("oc", vision), place / "OC.pth"), place / "oc"))


def test_an_oc_checkpoint_becomes_an_encoder_run_that_fit_takes(oc, vision):
    run = load_encoder_run(oc.path)
    assert run.manifest == oc.manifest
    assert (run.manifest.encoder.name, run.manifest.encoder.normalise) == ("resnet50", True)
    assert run.manifest.face_rule == FaceRule(finder="none", scale=1.3, resize="bilinear")
    assert run.manifest.provenance["imported"] == "oc"
    assert all(torch.equal(v.float(), run.encoder.state_dict()[k]) for k, v in vision.items() if v.ndim)
    assert oc.notices == (
        "BLADES one-class: every tensor is as published; licence none stated: ask its authors",
    )
    bare = load_encoder(str(oc.path)).manifest
    assert bare.text is None and bare.face_rule.resize == "bilinear"


def test_the_text_encoder_of_an_imported_run_can_be_gone_on_with(oc):
    encoder = TextEncoder("clip", ["A photo of a photographic face"], embedding_dim=768)
    line = load_text_weights(encoder, str(oc.path / ENCODER_FILE))
    assert "random" not in line
    with safe_open(oc.path / ENCODER_FILE, "pt") as file:
        assert torch.equal(encoder.text_fc.weight, file.get_tensor("head.text.text_fc.weight"))
        table = file.get_tensor("head.text.token_embedding.weight")
    assert torch.equal(encoder.token_embedding.weight, table[list(encoder.token_ids)])


def test_a_bc_checkpoint_without_photographs_keeps_its_classifier_and_says_that_it_cannot_decide(place, flat):
    state = published("bc", flat)
    imported = run_import(ImportOptions(saved(state, place / "BC.pth"), place / "bc"))
    with safe_open(place / "bc" / ENCODER_FILE, "pt") as file:
        for key in CLASSIFIER:
            assert torch.equal(file.get_tensor(f"classifier.{key}"), state[key].float())
    assert imported.manifest.heads == {}
    assert "kept in the run but cannot decide before it is calibrated" in imported.notices[1]
    assert "--photos" in imported.notices[1]


def test_an_aigfd_exif_checkpoint_keeps_its_heads_and_its_features_are_not_normalised(place, flat):
    state = published("aigfd-exif", flat)
    left_over = {"positional_embedding": (77, 512), "ln_final.weight": (512,), "logit_scale": ()}
    state |= {f"model.{key}": torch.tensor(0.5).expand(shape) for key, shape in left_over.items()}
    imported = run_import(ImportOptions(saved(state, place / "x.pth"), place / "exif", name="mine"))
    tensors = load_file(place / "exif" / ENCODER_FILE)
    for head in SCALAR_HEADS:
        assert torch.equal(tensors[f"head.{head}.weight"], state[f"{head}.weight"].float())
        assert torch.equal(tensors[f"head.{head}.bias"], state[f"{head}.bias"].float())
    assert (imported.manifest.name, imported.manifest.encoder.normalise) == ("mine", False)
    assert imported.manifest.text is None
    assert imported.manifest.licence == "CC-BY-NC-SA-2.0" and "not for commercial use" in imported.notices[0]
    assert imported.manifest.provenance["passed_over"] == sorted(f"model.{key}" for key in left_over)


# Calibration


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> list[Source]:
    """Six pictures that are face crops by decree, of sizes that resizing must change."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    names = []
    for index in range(6):
        side = 150 + 70 * index
        colour = np.full((side, side + 9, 3), [40 * index, 250 - 40 * index, 128])
        noisy = (colour + rng.normal(0, 5 * index, colour.shape)).clip(0, 255)
        Image.fromarray(noisy.astype(np.uint8)).save(folder / f"{index}.png")
        names.append(str(folder / f"{index}.png"))
    return [Source(name) for name in names]


@pytest.fixture(scope="module")
def bc(place, vision) -> tuple[Path, dict[str, Tensor]]:
    torch.manual_seed(1)
    state = published("bc", vision)
    state |= {key: value * 20 for key, value in Classifier(768, 1536).state_dict().items()}
    return saved(state, place / "calibrated.pth"), state


def options(path: Path, out: Path, **more: Any) -> ImportOptions:
    return ImportOptions(path, out, decoder=DecoderSettings(faces="none"), false_alarm=0.3, **more)


@pytest.fixture(scope="module")
def detector(place, bc, photographs) -> Path:
    out = place / "bc.safetensors"
    imported = run_import(options(bc[0], out), photographs)
    assert imported.manifest == load_detector(out).manifest
    assert len(imported.notices) == 1
    return out


def p_ai_generated(state: dict[str, Tensor], vision: dict[str, Tensor], name: str) -> float:
    """The authors' own computation, written out: softmax of the classifier, second of two outputs."""
    encoder = new_vision_encoder("resnet50", embedding_dim=768)
    encoder.load_state_dict({key: value.float() for key, value in vision.items()})
    pixels = torch.from_numpy(np.asarray(Image.open(name).convert("RGB")).copy()).permute(2, 0, 1)[None] / 255
    pixels = torch.nn.functional.interpolate(pixels, (224, 224), mode="bilinear", antialias=False)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)
    with torch.no_grad():
        x = encoder.eval()((pixels - mean) / std)
        x = x / x.norm(dim=1, keepdim=True)
        x = torch.relu(x @ state["fc1.weight"].T + state["fc1.bias"])
        return float((x @ state["fc2.weight"].T + state["fc2.bias"]).softmax(1)[0, 1])


TOLERANCE = 0.01


def logit(p: list[float]) -> NDArray[np.float64]:
    values = np.array(p)
    return np.log(values / (1 - values))


def test_a_calibrated_bc_checkpoint_scans_as_the_authors_code_computes(detector, bc, vision, photographs):
    job = Scanner(
        ScanOptions(detector, backend="pytorch", decoder=DecoderSettings(faces="none"), batch_size=3)
    )
    with job:
        records = list(job.scan(photographs))
    manifest = load_detector(detector).manifest
    assert manifest.face_rule == FaceRule(finder="none", scale=1.3, resize="bilinear")
    found = [record.faces[0].p_ai_generated for record in records]
    want = [p_ai_generated(bc[1], vision, photograph.name) for photograph in photographs]
    # Crops are whole grey levels, the authors' are not rounded.
    assert_allclose(logit(found), logit(want), rtol=0, atol=TOLERANCE)
    assert np.ptp(logit(want)) > 20 * TOLERANCE
    head = manifest.heads["binary"]
    assert_allclose(head.calibration, sorted(-p for p in found), rtol=0, atol=1e-7)
    assert (manifest.default_head, head.n_held_out) == ("binary", 6)
    # (1 + k) / (6 + 1) <= 0.3 for k <= 1: below the second lowest score a face is AI-generated.
    assert false_alarm_threshold(head, 0.3) == head.calibration[1]


def test_too_few_photographs_for_the_false_alarm_rate_are_refused(tmp_path, bc, photographs):
    with pytest.raises(
        DataError, match="2 faces to calibrate on, but a false-alarm rate of 0.3 needs at least 3"
    ):
        run_import(options(bc[0], tmp_path / "x.safetensors"), photographs[:2])
    assert not (tmp_path / "x.safetensors").exists()


def test_photographs_for_a_checkpoint_without_a_binary_head_are_refused(tmp_path, flat, photographs):
    path = saved(published("oc", flat), tmp_path / "OC.pth")
    with pytest.raises(UsageError, match="has no binary head to calibrate: .* bladescan fit"):
        run_import(options(path, tmp_path / "x.safetensors"), photographs)


def test_a_place_that_does_not_suit_is_refused_before_the_file_is_read(tmp_path, photographs):
    nowhere = tmp_path / "nowhere.pth"
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(UsageError, match="is not empty"):
        run_import(ImportOptions(nowhere, tmp_path / "full"))
    with pytest.raises(UsageError, match="name a folder; a detector needs --photos"):
        run_import(ImportOptions(nowhere, tmp_path / "x.safetensors"))
    with pytest.raises(UsageError, match=r"name a \.safetensors file"):
        run_import(ImportOptions(nowhere, tmp_path / "folder"), photographs)
    with pytest.raises(DetectorError, match="No such file"):
        run_import(ImportOptions(nowhere, tmp_path / "new"))
    assert not (tmp_path / "new").exists()


# What is wrong


@pytest.mark.parametrize(
    ("kind", "key", "value", "message"),
    [
        ("oc", "model.visual.fc.bias", None, "'model.visual.fc.bias' is missing"),
        ("oc", "model.text_projection", None, "'model.text_projection' is missing"),
        ("oc", "model.extra", torch.zeros(1), "unexpected tensor 'model.extra'"),
        ("oc", "model.visual.extra", torch.zeros(1), "unexpected tensor 'model.visual.extra'"),
        ("oc", "model.logit_scale", torch.zeros(1), r"'model.logit_scale' has shape \[1\], expected \[\]"),
        ("oc", "model.visual.bn1.bias", torch.full((64,), torch.inf), "not finite"),
        ("oc", "model.visual.bn1.bias", torch.zeros(64, dtype=torch.int64), "not finite"),
        (
            "bc",
            "fc2.weight",
            torch.zeros(3, 1536),
            r"'fc2.weight' has shape \[3, 1536\], expected \[2, 1536\]",
        ),
        ("bc", "fc1.bias", None, "'fc1.bias' is missing"),
        ("bc", "model.visual.fc.bias", torch.zeros(768), "unexpected tensor 'model.visual.fc.bias'"),
        ("aigfd-exif", "fc_face.bias", None, "'fc_face.bias' is missing"),
        ("aigfd-exif", "fc_joint.weight", torch.zeros(2, 768), "unexpected tensor 'fc_joint.weight'"),
        ("aigfd-exif", "model.text_projection", torch.zeros(2), "unexpected tensor 'model.text_projection'"),
    ],
)
def test_a_tensor_that_is_not_as_published_is_named_in_one_line(tmp_path, flat, kind, key, value, message):
    state = published(kind, flat)
    if value is None:
        del state[key]
    else:
        state[key] = value
    with pytest.raises(DetectorError, match=message) as caught:
        run_import(ImportOptions(saved(state, tmp_path / "x.pth"), tmp_path / "run"))
    assert "\n" not in str(caught.value) and str(tmp_path / "x.pth") in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_file_of_something_else_is_refused(tmp_path):
    with pytest.raises(DetectorError, match="none of the authors' checkpoints"):
        read_checkpoint(saved({"fc.weight": torch.zeros(1)}, tmp_path / "x.pth"))


def test_a_pickle_that_would_run_code_is_refused_before_it_runs(tmp_path, flat):
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "made"),))

    state: dict[str, Any] = published("oc", flat)
    torch.save({"model": state, "extra": Hostile()}, tmp_path / "x.pth")
    with pytest.raises(DetectorError, match="besides tensors; none of it was run"):
        run_import(ImportOptions(tmp_path / "x.pth", tmp_path / "run"))
    assert not (tmp_path / "made").exists() and not (tmp_path / "run").exists()
