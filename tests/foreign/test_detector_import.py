"""A stranger's detector scores through bladescan what it scores in its own framework, and is calibrated."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from bladescan.base.errors import DataError, DetectorError, RecipeError, UnknownNameError
from bladescan.detectors.calibration import p_values
from bladescan.detectors.manifest import PictureRule
from bladescan.faces.tiles import cut_tiles
from bladescan.fitting.detector_import import DetectorImportOptions, import_detector
from bladescan.foreign.answer_graph import SCORE, build_answer_graph
from bladescan.foreign.detector_layout import (
    DetectorLayout,
    known_detectors,
    read_detector_layout,
    read_subject_layout,
)
from bladescan.foreign.fed_network import seeded
from bladescan.foreign.onnx_graph import read_graph
from bladescan.networks.torch_graph import torch_to_onnx
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.onnx_session import open_session
from bladescan.runtimes.registry import get_plugin
from bladescan.scanning.decoder_process import DecoderSettings
from tests.foreign.networks import CHANGES, MEAN, STD, save_convolution
from tests.pictures import save_textures

SAID = [change.replace("encoder", "detector") for change in CHANGES]


class Ferret(nn.Module):
    """The shape of FerretNet: what a pixel has beyond its neighbours' median, then small convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, 2, 1)
        self.depthwise, self.pointwise = nn.Conv2d(8, 8, 3, 2, 1, groups=8), nn.Conv2d(8, 16, 1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(8), nn.BatchNorm2d(16)])
        self.last = nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        padded = nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
        h, w = x.shape[2:]
        shifts = [padded[:, :, i : i + h, j : j + w] for i in range(3) for j in range(3) if (i, j) != (1, 1)]
        x = x - torch.stack(shifts, -1).sort(-1).values[..., 3]
        x = torch.relu(self.norms[0](self.first(x)))
        x = torch.relu(self.norms[1](self.pointwise(self.depthwise(x))))
        return self.last(x.mean((2, 3)))


def excited():
    """A network whose answers differ from crop to crop, as those of one that has learned do."""
    torch.manual_seed(0)
    network = Ferret().eval()
    logits = torch.from_numpy(logits_of(network, seeded(12))).float()
    network.last.weight.data *= 2 / logits.std(0, keepdim=True).T
    network.last.bias.data.zero_()
    network.last.bias.data -= torch.from_numpy(logits_of(network, seeded(12))).float().mean(0)
    return network


@pytest.fixture(scope="module")
def ferret(tmp_path_factory):
    network = excited()
    path = tmp_path_factory.mktemp("ferret") / "ferret.onnx"
    path.write_bytes(torch_to_onnx(network, torch.zeros(2, 3, 224, 224), "x", ["logit"]))
    return network, path


def logits_of(network, crops):
    x = torch.from_numpy(((crops / 255.0 - MEAN) / STD).astype(np.float32)).permute(0, 3, 1, 2)
    with torch.no_grad():
        return network(x).double().numpy()


def scored(path, crops, **said):
    layout = DetectorLayout(
        **{"mean": MEAN, "std": STD, "kind": "logit", "ai_class": 1, "subject": "face", **said}
    )
    built = build_answer_graph(read_graph(path), layout)
    return open_session(built.model.SerializeToString()).run([SCORE], {"crops": crops})[0], built


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def pictures(folder, n):
    folder.mkdir()
    for i, crop in enumerate(seeded(n)):
        Image.fromarray(crop).save(folder / f"{i:02}.png")
    return folder


def test_scores_equal_its_own_frameworks(ferret):
    network, path = ferret
    crops = seeded(6)
    found, built = scored(path, crops)
    wanted = sigmoid(logits_of(network, crops)[:, 0])
    assert wanted.std() > 0.1
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert built.spec.embedding_dim == 1


def test_of_several_classes_the_named_one_is_taken(tmp_path):
    path = tmp_path / "four.onnx"
    weights = torch.from_numpy(save_convolution(path, shape=("n", 3, 224, 224)))
    crops = seeded(4)
    logits = logits_of(lambda x: torch.relu(torch.conv2d(x, weights, stride=8)).mean((2, 3)), crops)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert shares.std(0).min() > 1e-3
    for ours in range(4):
        np.testing.assert_allclose(scored(path, crops, ai_class=ours)[0], shares[:, ours], atol=1e-4)
    with pytest.raises(DetectorError, match="4 numbers for one crop; detector.ai_class=4 is none of them"):
        scored(path, crops, ai_class=4)


@pytest.mark.parametrize(("ai_class", "rises"), [(1, True), (0, False)])
def test_one_number_rises_or_falls_with_ai_generated(tmp_path, ferret, ai_class, rises):
    network, path = ferret
    crops = seeded(3)
    wanted = sigmoid(logits_of(network, crops)[:, 0])
    found = scored(path, crops, ai_class=ai_class)[0]
    np.testing.assert_allclose(found, wanted if rises else 1 - wanted, atol=1e-4)


def test_a_probability_is_taken_as_it_is(tmp_path, ferret):
    network, logits = ferret
    model = onnx.load(logits)
    model.graph.node.append(onnx.helper.make_node("Sigmoid", ["logit"], ["p"]))
    model.graph.output[0].name = "p"
    path = tmp_path / "p.onnx"
    onnx.save(model, path)
    crops = seeded(3)
    wanted = sigmoid(logits_of(network, crops)[:, 0])
    np.testing.assert_allclose(scored(path, crops, kind="probability")[0], wanted, atol=1e-5)
    np.testing.assert_allclose(scored(path, crops, kind="probability", ai_class=0)[0], 1 - wanted, atol=1e-5)


def test_the_middle_of_a_resized_crop_is_what_some_look_at(tmp_path):
    weights = torch.from_numpy(save_convolution(tmp_path / "c.onnx", shape=("n", 3, 56, 56)))
    crops = seeded(2)
    wide = [np.asarray(Image.fromarray(c).resize((64, 64), Image.Resampling.BILINEAR)) for c in crops]
    middle = np.asarray(wide, np.float32)[:, 4:60, 4:60]
    x = torch.from_numpy(((middle / 255 - MEAN) / STD).astype(np.float32)).permute(0, 3, 1, 2)
    logits = torch.relu(torch.conv2d(x, weights, stride=8)).mean((2, 3)).double().numpy()
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = scored(tmp_path / "c.onnx", crops, resize_to=64, resize="bilinear", ai_class=2)[0]
    np.testing.assert_allclose(found, shares[:, 2], atol=2e-3)


def test_it_is_calibrated_by_photographs_and_scanned_as_any(tmp_path, ferret):
    photographs = pictures(tmp_path / "photographs", 40)
    options = DetectorImportOptions(
        ferret[1],
        tmp_path / "d.onnx",
        changes=(*SAID, "detector.kind=logit", "detector.ai_class=1", "detector.subject=image"),
        licence="MIT",
    )
    imported = import_detector(options, str(photographs))
    backend = get_plugin("onnx").open(tmp_path / "d.onnx", BackendSettings("cpu"))
    head = backend.manifest.heads["binary"]
    crops = seeded(40)
    scores = backend.score(crops).p_ai_generated
    np.testing.assert_allclose(np.sort(-scores), head.calibration)
    assert (p_values(head, -scores) <= 0.05).sum() <= 2
    manifest = backend.manifest
    assert (manifest.subject, manifest.licence, manifest.face_rule.finder) == ("image", "MIT", "none")
    assert manifest.name == "ferret" and imported.manifest == manifest
    assert DecoderSettings(faces="auto").for_detector(manifest).faces == "none"
    assert "d.onnx" in str(imported.path) and "licence MIT" in imported.notices[0]


def test_too_few_photographs_and_things_nobody_has_said(tmp_path, ferret):
    few = pictures(tmp_path / "few", 5)
    said = (*SAID, "detector.kind=logit", "detector.ai_class=1", "detector.subject=image")
    options = DetectorImportOptions(ferret[1], tmp_path / "d.onnx", changes=said)
    with pytest.raises(DataError, match="5 whole pictures to calibrate on .* needs at least 19"):
        import_detector(options, str(few))
    with pytest.raises(RecipeError, match="nobody has said ai_class, subject of this detector: give --set"):
        read_detector_layout(ferret[1], "", changes=["detector.kind=logit"])
    with pytest.raises(RecipeError, match="nobody has said subject"):
        read_detector_layout(ferret[1], "", "effort")
    with pytest.raises(UnknownNameError, match="Available: aide, cnnd"):
        read_detector_layout(ferret[1], "", "effortt")
    with pytest.raises(RecipeError, match="64 pixels have no middle of 224"):
        read_detector_layout(ferret[1], "", "cnnd", ["detector.resize_to=64"])
    with pytest.raises(DetectorError, match="--set detector.mean=R,G,B"):
        scored(ferret[1], seeded(1), mean=None)
    assert not (tmp_path / "d.onnx").exists()


def test_every_shipped_recipe_can_be_read():
    known = known_detectors()
    names = {"aide", "cnnd", "co-spy", "community-forensics", "effort", "fatformer", "ferretnet-s", "npr"}
    assert set(known) == names
    for layout in known.values():
        assert layout.name and layout.kind == "logit"


def test_a_recipe_of_the_users_own_is_read(tmp_path, ferret):
    mine = tmp_path / "mine.yaml"
    mine.write_text("kind: probability\nai_class: 0\nsubject: face\nmean: [0, 0, 0]\nstd: [1, 1, 1]\n")
    layout = read_detector_layout(ferret[1], "", str(mine), ["detector.ai_class=1"])
    assert (layout.kind, layout.ai_class) == ("probability", 1)


def test_a_published_linear_head_over_an_encoder(tmp_path):
    save_convolution(tmp_path / "c.onnx", shape=("n", 3, 224, 224))
    photographs = pictures(tmp_path / "photographs", 30)
    weight, bias = torch.tensor([[3.0, -2.0, 1.0, 0.5]]), torch.tensor([-0.3])
    save_file({"fc.weight": weight, "fc.bias": bias}, tmp_path / "fc.safetensors")
    options = DetectorImportOptions(
        tmp_path / "fc.safetensors",
        tmp_path / "d.onnx",
        encoder=f"onnx:{tmp_path / 'c.onnx'}",
        changes=CHANGES,
        decoder=DecoderSettings(faces="none"),
    )
    import_detector(options, str(photographs))
    scores = get_plugin("onnx").open(tmp_path / "d.onnx", BackendSettings("cpu")).score(seeded(5))
    wanted = sigmoid(scores.embedding.astype(float) @ weight[0].double().numpy() - 0.3)
    np.testing.assert_allclose(scores.p_ai_generated, wanted, atol=1e-6)
    save_file({"weight": weight[:, :3].contiguous(), "bias": bias}, tmp_path / "fc.safetensors")
    with pytest.raises(DetectorError, match=r"fc.weight \[1, 4\] .* found bias \[1\], weight \[1, 3\]"):
        import_detector(options, str(photographs))


def test_a_stranger_sees_whole_pictures_as_its_user_says(tmp_path, ferret):
    photographs = save_textures(tmp_path / "wide", 20, (500, 250))
    said = (*SAID, "detector.kind=logit", "detector.ai_class=1", "detector.subject=image")
    tiles = (*said, "detector.view=tiles", "detector.most=2", "detector.join=top")
    options = DetectorImportOptions(ferret[1], tmp_path / "d.onnx", changes=tiles)
    manifest = import_detector(options, str(photographs)).manifest
    assert manifest.picture_rule == PictureRule("tiles", 224, 2, "top")
    backend = get_plugin("onnx").open(tmp_path / "d.onnx", BackendSettings("cpu"))
    crops = [cut_tiles(Image.open(path), manifest.picture_rule, 2).crops for path in photographs.iterdir()]
    p = np.sort([-max(backend.score(one).p_ai_generated) for one in crops])
    np.testing.assert_allclose(p, manifest.heads["binary"].calibration, rtol=1e-9)
    with pytest.raises(RecipeError, match="expected a multiple of 8"):
        import_detector(replace(options, changes=(*tiles, "detector.tile=99")), str(photographs))
    assert read_detector_layout(ferret[1], "", changes=said).picture_rule().view == "square"
    assert read_subject_layout(["detector.subject=image", "detector.most=4"]).picture_rule().most == 4
    with pytest.raises(RecipeError, match="detector.kind says nothing of a linear head"):
        read_subject_layout(["detector.kind=logit"])


def test_the_command(bladescan, in_process, tmp_path, ferret):
    photographs = pictures(tmp_path / "photographs", 25)
    said = [part for change in (*SAID, "detector.ai_class=1") for part in ("--set", change)]
    command = ["import", ferret[1], "--as", "detector", "--photos", photographs, *said]
    missing = in_process(*command, "-o", tmp_path / "d.onnx")
    assert missing.exit_code == 2 and "nobody has said kind, subject" in missing.stderr
    more = ["--set", "detector.kind=logit", "--set", "detector.subject=image", "-o", tmp_path / "d.onnx"]
    done = bladescan(*command, *more)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(in_process("info", tmp_path / "d.onnx", "--json").stdout)["subject"] == "image"
    scan = bladescan("scan", "--model", tmp_path / "d.onnx", photographs, "--format", "csv")
    assert len(scan.stdout.splitlines()) == 26 and b"no-face" not in scan.stdout, scan.stderr.decode()
    wrong = in_process("import", ferret[1], "--as", "head", "-o", tmp_path / "x")
    assert wrong.exit_code == 2 and "'head'" in wrong.stderr
    alone = in_process("import", ferret[1], "--as", "detector", "-o", tmp_path / "x.onnx")
    assert alone.exit_code == 2 and "--photos" in alone.stderr
