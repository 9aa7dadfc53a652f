"""How far an embedding moves is what RIGID, Contrastive Blur and MINDER say, and both tails are rare."""

from __future__ import annotations

from math import exp
from statistics import NormalDist

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from scipy.ndimage import gaussian_filter

from bladescan.base.errors import DetectorError, RecipeError
from bladescan.detectors.calibration import p_values
from bladescan.fitting.fit_settings import FitSettings
from bladescan.fitting.heads_fit import FitFaces, fit_detector
from bladescan.foreign.encoders import load_foreign_encoder
from bladescan.foreign.fed_network import seeded
from bladescan.foreign.movement import blur_kernel, noise
from bladescan.foreign.tails import fit_tails, normal_scores, with_tails
from bladescan.runtimes.onnx_session import open_session
from tests.foreign.networks import MEAN, SIDE, STD, save_convolution
from tests.foreign.test_encoder_graph import built, embedded, one_by_one, pixels_of


def naive_distance(a, b):
    """One minus the cosine, as the papers write it."""
    return 1 - sum(a * b) / (sum(a * a) ** 0.5 * sum(b * b) ** 0.5)


def naive_blur(picture, sigma):
    """The sum over neighbours, mirrored at the edge without repeating it; ``picture`` is ``[3, h, w]``."""
    return np.stack([gaussian_filter(c, sigma, mode="mirror", truncate=4.0) for c in picture.astype(float)])


def moved(path, kind, *changes):
    return built(path, f"encoder.movement={kind}", "encoder.output=vector", *changes)


@pytest.fixture
def convolution(tmp_path):
    """Its file, and what it says of normalised pixels ``[3, 224, 224]``."""
    path = tmp_path / "c.onnx"
    weights = torch.from_numpy(save_convolution(path, shape=("n", 3, 224, 224))).double()

    def network(pixels):
        x = torch.from_numpy(np.asarray(pixels, float)[None])
        return torch.relu(torch.conv2d(x, weights, stride=8)).mean((2, 3))[0].numpy()

    return path, network


@pytest.mark.parametrize("kind", ["rigid", "blur", "minder"])
def test_a_movement_is_that_of_the_papers(convolution, kind):
    path, network = convolution
    crops = seeded(3)
    drawn = np.random.default_rng(0).standard_normal((3, 224, 224))
    wanted = []
    for crop in crops:
        x = ((crop / 255.0 - MEAN) / STD).transpose(2, 0, 1)
        by_noise = naive_distance(network(x), network(x + 0.1 * drawn))
        by_blur = naive_distance(network(x), network(naive_blur(x, 0.8)))
        wanted.append({"rigid": by_noise, "blur": by_blur, "minder": min(by_noise, by_blur)}[kind])
    detector = moved(path, kind, "encoder.noise_sigma=0.1", "encoder.blur_sigma=0.8")
    found = embedded(detector.graph, crops)
    assert found.shape == (3, 1) and detector.manifest.encoder.embedding_dim == 1
    np.testing.assert_allclose(np.exp(found[:, 0]), wanted, rtol=2e-3)


def test_tokens_and_several_outputs_move_as_one_vector(vit):
    network, path = vit
    crops = seeded(2)
    detector = built(path, "encoder.movement=rigid", "encoder.output=block1,block3", "encoder.tokens=class")

    def said(x):
        with torch.no_grad():
            hidden = network.hidden(x)
        return torch.cat([hidden[0][:, 0], hidden[2][:, 0]], 1).double().numpy()

    pixels = pixels_of(crops)
    copies = said(pixels + torch.from_numpy(noise(SIDE, 0.05)))
    wanted = [naive_distance(a, b) for a, b in zip(said(pixels), copies, strict=True)]
    # A pixel may differ by one grey level from Pillow's.
    np.testing.assert_allclose(np.exp(one_by_one(detector, crops)[:, 0]), wanted, rtol=0.05)


@pytest.mark.parametrize("opset", [11, 13, 18, 20])
def test_a_row_is_the_same_in_any_batch_and_any_operator_set(tmp_path, opset):
    save_convolution(tmp_path / "c.onnx", opset=opset)
    detector = moved(tmp_path / "c.onnx", "minder")
    assert detector.manifest.encoder.batch == 0
    crops = seeded(7)
    together = embedded(detector.graph, crops)
    assert (together == one_by_one(detector, crops)).all() and (
        together == embedded(detector.graph, crops)
    ).all()
    assert len(np.unique(together)) == 7


def test_a_picture_of_one_colour_has_a_finite_movement(tmp_path):
    save_convolution(tmp_path / "c.onnx")
    black = np.zeros((1, 224, 224, 3), np.uint8)
    for kind in ("rigid", "blur", "minder"):
        assert np.isfinite(embedded(moved(tmp_path / "c.onnx", kind).graph, black)).all()


def test_a_larger_sigma_moves_it_further(tmp_path):
    save_convolution(tmp_path / "c.onnx")
    crops = seeded(3)
    for kind, key in (("rigid", "noise_sigma"), ("blur", "blur_sigma")):
        near, far = (
            embedded(moved(tmp_path / "c.onnx", kind, f"encoder.{key}={sigma}").graph, crops)
            for sigma in (0.2, 2)
        )
        assert (far > near).all()


def test_blur_and_noise_are_what_is_said_of_them():
    kernel = blur_kernel(0.55)
    assert kernel.shape == (7, 7) and kernel.sum() == pytest.approx(1.0)
    assert (kernel == kernel.T).all() and (kernel == kernel[::-1]).all()
    for x, y in ((1, 0), (1, 1), (2, 3)):
        assert kernel[3 + y, 3 + x] / kernel[3, 3] == pytest.approx(exp(-(x * x + y * y) / (2 * 0.55**2)))
    assert noise(224, 0.05).std() == pytest.approx(0.05, rel=0.01)
    assert (noise(32, 0.05) == noise(32, 0.05)).all()


def test_sigma_is_stated(tmp_path):
    save_convolution(tmp_path / "c.onnx")
    said = moved(tmp_path / "c.onnx", "minder").manifest.provenance["encoder"]
    assert (said["movement"], said["noise_sigma"], said["blur_sigma"], said["noise_seed"]) == (
        "minder",
        0.05,
        0.55,
        0,
    )
    assert "noise_sigma" not in moved(tmp_path / "c.onnx", "blur").manifest.provenance["encoder"]
    assert "movement" not in built(tmp_path / "c.onnx").manifest.provenance["encoder"]


@pytest.fixture(scope="module")
def two_sided(tmp_path_factory):
    """A detector fitted on movements of photographs alone, and what gives the p-values of movements."""
    path = tmp_path_factory.mktemp("two-sided") / "c.onnx"
    save_convolution(path)
    settings = FitSettings("auto", held_out=0.5)
    detector = fit_detector(moved(path, "rigid"), FitFaces(movements(3000, 1)), settings)
    model = onnx.load_from_string(detector.graph)
    for node in list(model.graph.node):
        if not node.name.startswith("tails/"):
            model.graph.node.remove(node)
    del model.graph.input[:]
    model.graph.input.append(onnx.helper.make_tensor_value_info("tails/number", TensorProto.FLOAT, ["n", 1]))
    session = open_session(model.SerializeToString())

    def p_of(x):
        scores = detector.mixture.score_samples(session.run(["embedding"], {"tails/number": x})[0])
        return p_values(detector.manifest.heads["one-class"], scores)

    return detector, p_of


def movements(n, seed):
    """Logarithms of distances whose lower tail is much the longer, ``[n, 1]``."""
    return (-5 - np.random.default_rng(seed).gamma(1.5, 0.7, (n, 1))).astype(np.float32)


def test_p_values_of_photographs_are_uniform(two_sided):
    p = np.sort(two_sided[1](movements(4000, 2)))
    # Kolmogorov's distance of two samples: 1,500 held out and 4,000 new ones.
    assert np.abs(p - np.linspace(0, 1, len(p))).max() < 1.63 * (1 / 1500 + 1 / 4000) ** 0.5


def test_both_tails_are_rare_and_as_rare_as_twice_the_lesser_tail(two_sided):
    x = np.linspace(-10, -4.5, 61, dtype=np.float32)
    low = np.searchsorted(np.sort(movements(100_000, 3)[:, 0]), x, side="right") / 100_000
    wanted = 2 * np.minimum(low, 1 - low)
    found = two_sided[1](x[:, None])
    assert found[0] < 0.01 > found[-1] and found.max() > 0.9
    np.testing.assert_allclose(found, wanted, atol=0.08)


@pytest.mark.parametrize("direction", [-1, 1])
def test_the_direction_is_learned_from_generated_pictures(tmp_path, direction):
    save_convolution(tmp_path / "c.onnx")
    rng = np.random.default_rng(4)
    ours, theirs = rng.normal(-5, 0.7, (300, 1)), rng.normal(-5 + direction, 0.7, (40, 1))
    faces = FitFaces(ours.astype(np.float32), theirs.astype(np.float32))
    detector = fit_detector(moved(tmp_path / "c.onnx", "rigid"), faces, FitSettings("full", n_components=1))
    weight = detector.classifier["fc2.weight"]
    assert float(weight[1, 0] - weight[0, 0]) * direction > 0


def test_no_neighbours_are_kept_of_one_number(two_sided):
    assert two_sided[0].manifest.neighbours is None


def test_the_graph_gives_the_scores_of_the_fit_and_equal_numbers_have_equal_scores(tmp_path):
    save_convolution(tmp_path / "c.onnx")
    graph, crops = moved(tmp_path / "c.onnx", "rigid").graph, seeded(4)
    numbers = embedded(graph, crops)
    for learned in (movements(200, 4)[:, 0], np.repeat([-9.0, -2.0], [5, 90]), np.full(9, -3.0)):
        tails = fit_tails(learned.astype(np.float32))
        found = embedded(with_tails(graph, tails), crops)
        np.testing.assert_allclose(found, normal_scores(tails, numbers), rtol=1e-5, atol=1e-5)
        assert (np.argsort(found, 0) == np.argsort(numbers, 0)).all()
    scores = normal_scores(fit_tails(movements(5000, 5)[:, 0]), movements(5000, 6)[:, 0])
    for q in (0.02, 0.16, 0.5, 0.84, 0.98):
        assert np.quantile(scores, q) == pytest.approx(NormalDist().inv_cdf(q), abs=0.15)


def test_what_cannot_be_is_said(tmp_path):
    path = tmp_path / "c.onnx"
    save_convolution(path)
    with pytest.raises(RecipeError, match="encoder.movement.*rigid"):
        moved(path, "rigit")
    with pytest.raises(RecipeError, match="encoder.noise_sigma: got 0: expected more than 0, at most 10"):
        moved(path, "rigid", "encoder.noise_sigma=0")
    with pytest.raises(RecipeError, match="encoder.blur_sigma: got -1"):
        moved(path, "blur", "encoder.blur_sigma=-1")
    save_convolution(path, shape=("n", 224, 224, 3), dtype=2)
    with pytest.raises(DetectorError, match="takes bytes, and encoder.movement changes normalised pixels"):
        load_foreign_encoder(f"onnx:{path}", ["encoder.movement=rigid"])
    save_convolution(path, shape=("n", 3, 8, 8))
    with pytest.raises(DetectorError, match="encoder.blur_sigma=2 reaches 8 pixels, and it takes 8"):
        moved(path, "blur", "encoder.blur_sigma=2")


def test_a_network_made_for_one_picture_is_refused(tmp_path):
    path = tmp_path / "c.onnx"
    save_convolution(path, shape=(1, 3, 56, 56))
    model = onnx.load(path)
    model.graph.node.pop()
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 4]), "shape"))
    model.graph.node.append(onnx.helper.make_node("Reshape", ["pooled", "shape"], ["vector"]))
    onnx.save(model, path)
    with pytest.raises(DetectorError, match="runs one picture at a time, and encoder.movement"):
        moved(path, "rigid")
