"""What a detector file says of itself: the same JSON in a safetensors header and in ONNX metadata.

It is data only: reading a manifest never imports or runs anything from the file.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from bladescan.base.errors import DetectorError
from bladescan.base.text import counted

FORMAT_VERSION = 2
METADATA_KEY = "bladescan"
"""Key of the manifest in the safetensors header and in the ONNX metadata."""

GRAPH_ENCODER = "onnx"
"""Name of the architecture of a stranger's encoder, an ONNX graph; only an exported detector has one."""

DEFAULT_FALSE_ALARM = 0.05
"""Of a detector, unless whoever makes it asks for another rate."""

Subject = Literal["face", "image"]
HeadName = Literal["one-class", "binary", "combined"]
NetworkHead = Literal["one-class", "binary"]
"""The heads that a detector's graph computes; what is combined is computed from their scores."""
CombinationRule = Literal["stouffer", "min"]
Resize = Literal["antialias", "bilinear"]
View = Literal["tiles", "centre", "square"]
TileJoin = Literal["mean", "top"]
CalibrationUnit = Literal["file", "folder", "strictest-folder"]
"""Over what a false-alarm rate holds, see `bladescan.detectors.collections`."""


class Preprocessing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From a face crop to the encoder's input: x = (pixel / 255 - mean) / std."""

    size: int = 224
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)


class FaceRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a face box became a crop: a square of ``scale`` times the longer side of the box.

    Attributes:
        finder: the face finder whose boxes the detector was fitted on; a scan with another one, which cuts
            faces differently, prints a warning.
        scale: side of the square over the longer side of the box.
        resize: how the square became a crop, see `bladescan.faces.crops`: ``antialias``, or ``bilinear``
            without antialiasing, as the authors of the method do.
    """

    finder: str = "auto"
    scale: float = 1.3
    resize: Resize = "antialias"


FACE_RULE = FaceRule()
"""The rule for a detector of one's own."""


class PictureRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a whole picture becomes crops, and their scores one; for a detector of whole pictures.

    Attributes:
        view: ``tiles`` spread over the picture, the one tile in its ``centre``, or its middle ``square``,
            which is resized. See `bladescan.faces.tiles`.
        tile: side of a tile in pixels of the picture. One of the crop's own size is not resized, which would
            destroy the traces of generators; of another size it is.
        most: tiles of one picture at most.
        join: how the scores of the tiles become one, see `bladescan.detectors.tile_scores`.
    """

    view: View = "tiles"
    tile: int = 224
    most: int = 9
    join: TileJoin = "mean"

    def __post_init__(self) -> None:
        if not 16 <= self.tile <= 4096 or self.tile % 8 or not 1 <= self.most <= MOST_TILES:
            raise ValueError(
                f"tiles of {self.tile} pixels, at most {self.most}: expected a multiple of 8 from 16 to 4096 "
                f"pixels, and 1 to {MOST_TILES} tiles"
            )


MOST_TILES = 64
"""Of one picture: 10 MB of crops, of which a scan holds those of some pictures at once."""
PICTURE_RULE = PictureRule()
"""The rule for a detector of one's own."""


class EncoderSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The shape of the vision encoder.

    Attributes:
        name: of the architecture, see `bladescan.networks.encoders`, or `GRAPH_ENCODER`.
        width: channels of the stem.
        embedding_dim: length of the embedding.
        normalise: whether the embedding is scaled to length 1.
        batch: most crops in one run, 0 for any number: the rows of some graphs depend on their batch.
    """

    name: str
    width: int = 64
    embedding_dim: int = 768
    normalise: bool = True
    batch: int = 0


class TextEncoderSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The shape of the text encoder that an encoder run holds beside the vision encoder.

    Attributes:
        name: ``gpt2`` or ``clip``.
        layers, width, heads: of its transformer.
        prompts: the texts whose tokens have a row in the token table; empty for the whole vocabulary.
    """

    name: str
    layers: int
    width: int
    heads: int
    prompts: tuple[str, ...] = ()


class CalibratedHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One head and its calibration.

    Attributes:
        calibration: ascending held-out photographic scores (at most 4,096 quantiles of them), where
            *higher is more photographic*: log-likelihoods, or for the binary head -P(AI-generated).
        n_held_out: how many photographs they stand for.
        settings: how the head was fitted (covariance type, components, ...), for people to read.
        paper_threshold: the paper's: the training log-likelihood at index int(0.05 n), for comparison.
        by: over what a rate holds: photographs alike, or folders of them.
        n_folders: that the photographs lay in; 0 where all photographs count alike.
        steps: p-values of a score below all of ``calibration``, of one between its first and second, and so
            on, one more than ``calibration``; empty where all photographs count alike: ranks say it.
    """

    calibration: tuple[float, ...]
    n_held_out: int
    settings: dict[str, Any] = {}
    paper_threshold: float | None = None
    by: CalibrationUnit = "file"
    n_folders: int = 0
    steps: tuple[float, ...] = ()


class Component(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of several scores whose p-values are combined.

    Attributes:
        name: of its columns in the output.
        head: that gives the score.
        calibration: of that score.
        part: which detector gives it, counted from 0.
    """

    name: str
    head: NetworkHead
    calibration: CalibratedHead
    part: int = 0


class Combination(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the p-values of several scores become the score of the head ``combined``.

    Attributes:
        rule: see `bladescan.detectors.combination`.
        components: the scores, two or more.
        face_rules: of each detector where there are several, empty for the heads of one.
        seen_together: the same photographs were scored by all components, and calibrate the combined score;
            otherwise its calibration is a bound that holds however the components depend on each other.
    """

    rule: CombinationRule
    components: tuple[Component, ...]
    face_rules: tuple[FaceRule, ...] = ()
    seen_together: bool = True


class MeasuredRate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many photographs were flagged that are unlike those of the calibration.

    Attributes:
        head: that decided.
        photographs: name of their set, for people.
        n_faces: of them.
        false_alarm: the rate that was asked for.
        flagged: share of the faces that were flagged.
    """

    head: HeadName
    photographs: str
    n_faces: int
    false_alarm: float
    flagged: float


class Neighbours(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sketches of the calibration's photographs, see `bladescan.detectors.neighbours`.

    Attributes:
        n: photographs.
        sketches: of all of them one after another, in base64.
    """

    n: int
    sketches: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole manifest.

    Attributes:
        text: of an encoder run that holds one; a detector has none.
        heads: what the detector can decide with; empty for a bare encoder.
        default_head: the head of ``--head auto``.
        default_false_alarm: the false-alarm rate of a scan that names none.
        combination: how the head ``combined`` is made of others; None without that head.
        neighbours: photographs of the calibration, to ask how near a face is by its embedding; None for none.
        measured: false alarms among photographs unlike those of the calibration; empty if not measured.
        subject: what it was made to judge: a face, or a whole picture.
        picture_rule: how a whole picture is viewed; it says nothing of a detector of faces.
        provenance: recipe digest, data counts, versions, measured rates; read by people, never by code.
    """

    name: str
    encoder: EncoderSpec
    preprocessing: Preprocessing = Preprocessing()
    face_rule: FaceRule = FACE_RULE
    text: TextEncoderSpec | None = None
    heads: dict[HeadName, CalibratedHead] = {}
    default_head: HeadName | None = None
    default_false_alarm: float = DEFAULT_FALSE_ALARM
    combination: Combination | None = None
    neighbours: Neighbours | None = None
    measured: tuple[MeasuredRate, ...] = ()
    licence: str = ""
    subject: Subject = "face"
    picture_rule: PictureRule = PICTURE_RULE
    provenance: dict[str, Any] = {}
    format_version: int = FORMAT_VERSION


def network_heads(manifest: Manifest) -> list[NetworkHead]:
    """List the heads of a detector that its own graph computes."""
    both: tuple[NetworkHead, ...] = ("one-class", "binary")
    return [head for head in both if head in manifest.heads]


def crop_rules(manifest: Manifest) -> tuple[FaceRule, ...]:
    """List the ways in which a face is cut out for a detector, each once; the first is the manifest's own."""
    combination = manifest.combination
    rules = (manifest.face_rule, *(combination.face_rules if combination else ()))
    found: dict[tuple[float, str], FaceRule] = {}
    for rule in rules:
        found.setdefault((rule.scale, rule.resize), rule)
    return tuple(found.values())


def counted_subjects(manifest: Manifest, n: int) -> str:
    """Write how many faces there are, or whole pictures, whichever a detector judges."""
    return counted(n, "face" if manifest.subject == "face" else "whole picture")


def encode_manifest(manifest: Manifest) -> str:
    """Encode a manifest as JSON text of the present format, keys in a fixed order."""
    manifest = msgspec.structs.replace(manifest, format_version=FORMAT_VERSION)
    return msgspec.json.encode(manifest, order="deterministic").decode()


def decode_manifest(text: str | bytes, *, where: str) -> Manifest:
    """Read a manifest.

    Args:
        text: its JSON.
        where: the file's name, for the error.

    Raises:
        DetectorError: not JSON, not a manifest, or written by a newer bladescan.
    """
    try:
        version = msgspec.json.decode(text, type=dict[str, Any]).get("format_version")
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise DetectorError(
                f"{where}: made by a newer bladescan (format {version}, this one reads up to "
                f"{FORMAT_VERSION}): pip install --upgrade bladescan"
            )
        return msgspec.json.decode(text, type=Manifest)
    except msgspec.MsgspecError as exc:
        raise DetectorError(f"{where}: not a bladescan detector: {exc}") from exc
