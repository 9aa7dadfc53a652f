"""Scores and reports to draw, and what is read off a picture."""

import math

import matplotlib
import numpy as np
from PIL import Image

from bladescan.evaluation.report import (
    PHOTOGRAPHS,
    HeadReport,
    Interval,
    Metrics,
    Report,
    Scored,
    SetCounts,
    VariantReport,
)

NAN, INF = math.nan, math.inf

VARIANTS = ["none", "jpeg-95", "jpeg-75", "blur"]


def scored(n_generators=2, n=60):
    """The later the generator, the further from the photographs."""
    rng = np.random.default_rng(0)
    likely, p = {PHOTOGRAPHS: rng.normal(0, 1, n)}, {PHOTOGRAPHS: rng.beta(1, 4, n)}
    embeddings = {PHOTOGRAPHS: rng.normal(size=(n, 8)).astype(np.float32)}
    for i in range(n_generators):
        likely[f"g{i}"] = rng.normal(-0.5 - i, 1, n // 2)
        p[f"g{i}"] = rng.beta(2 + i, 2, n // 2)
        embeddings[f"g{i}"] = rng.normal(i, 1, size=(n // 2, 8)).astype(np.float32)
    return Scored({"one-class": likely, "binary": p}, embeddings)


def one_class(photographs, **generators):
    sets = {PHOTOGRAPHS: photographs, **generators}
    return Scored({"one-class": {name: np.array(scores, np.float64) for name, scores in sets.items()}})


def binary(photographs, **generators):
    return Scored({"binary": one_class(photographs, **generators).scores["one-class"]})


def metrics(value, low=None, high=None):
    interval = Interval(value, value - 0.02 if low is None else low, value + 0.01 if high is None else high)
    return Metrics(9, 9, *[interval] * 9)


def report(variants=None, *, one_class=-1.5, binary=0.75):
    """A report of both heads, each with the variants given: by name, metrics by generator."""
    found = {
        name: VariantReport(generators, metrics(np.mean([m.auc.value for m in generators.values()])))
        for name, generators in (variants or {}).items()
    }
    heads = {"one-class": HeadReport(one_class, found), "binary": HeadReport(binary, found)}
    counts = SetCounts(9, 9, 9, {})
    return Report("0", "d", "00", "onnx", "cpu", "auto", 0.05, None, counts, {}, heads, {}, [])


def falling(n_generators=3):
    """Every generator its own course of AUC."""
    return {
        variant: {f"g{k}": metrics(0.9 - 0.03 * k - 0.02 * i) for k in range(n_generators)}
        for i, variant in enumerate(VARIANTS)
    }


def texts(figure):
    figure.draw_without_rendering()
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def line(axes, label):
    """Places of the one line of some axes with a label."""
    (found,) = [line for line in axes.get_lines() if line.get_label() == label]
    return np.array(found.get_xydata())


def key(axes):
    """Areas and names beside a ROC curve, from the top."""
    rows = [text for text in axes.texts if text.get_text() not in ("AUC", "chance")]
    return [t.get_text().split("  ") for t in sorted(rows, key=lambda text: -text.get_position()[1])]


def size(path):
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        return image.size
