"""Detectors small enough for tests: random weights, both heads, every covariance type."""

from dataclasses import replace

import numpy as np
import torch

from bladescan.detectors.manifest import CalibratedHead, EncoderSpec, Manifest
from bladescan.heads.classifier import Classifier
from bladescan.heads.detector import Detector
from bladescan.heads.mixture import Mixture
from bladescan.networks.encoders import new_vision_encoder, vision_state

D = 24


def bare_encoder(d=D):
    torch.manual_seed(0)
    manifest = Manifest("tiny", EncoderSpec("resnet10", width=8, embedding_dim=d))
    return Detector(manifest, vision_state(new_vision_encoder("resnet10", 8, d)))


def tiny_mixture(covariance="full", d=D, k=3):
    generator = torch.Generator().manual_seed(1)
    n_factors = {"full": k, "tied": 1, "diag": k}[covariance]
    diagonal = 4 + torch.rand(n_factors, d, generator=generator)
    factors = torch.diag_embed(diagonal) + torch.randn(n_factors, d, d, generator=generator).triu(1)
    means = torch.randn(k, d, generator=generator) / d**0.5
    return Mixture(torch.tensor([0.5, 0.3, 0.2]), means, diagonal if covariance == "diag" else factors)


def tiny_detector(covariance="full", heads=("one-class", "binary")):
    bare = bare_encoder()
    torch.manual_seed(2)
    head = CalibratedHead((-2.0, -1.0, 0.0), 3)
    manifest = Manifest(
        "tiny",
        bare.manifest.encoder,
        heads={name: head for name in heads},
        default_head=heads[0] if heads else None,
    )
    return Detector(
        manifest,
        bare.vision,
        tiny_mixture(covariance) if "one-class" in heads else None,
        Classifier(D, 32).state_dict() if "binary" in heads else None,
    )


def second_detector():
    """Another tiny detector: the same encoder, another binary head, no one-class head."""
    torch.manual_seed(5)
    return replace(tiny_detector(heads=("binary",)), classifier=Classifier(D, 32).state_dict())


def crops(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 224, 224, 3), np.uint8)


def faces_like(n, seed=0):
    """Smooth colour fields with grain: what excites an encoder as pictures do."""
    rng = np.random.default_rng(seed)
    fields = rng.integers(0, 256, (n, 4, 4, 3)).repeat(56, 1).repeat(56, 2)
    return (fields * 0.8 + rng.integers(0, 50, (n, 224, 224, 3))).astype(np.uint8)
