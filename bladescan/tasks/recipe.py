"""The keys of a recipe: frozen dataclasses and their limits. It reads no file.

Encoders, tasks and manipulations are registered names, never import paths.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from bladescan.tasks.pretext_tasks import ORIGIN, PAPER_TAGS, PAPER_TASKS, TASKS, WITHOUT_EXIF

Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Gamma = Annotated[float, msgspec.Meta(ge=0)]
Beta = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Quality = Annotated[int, msgspec.Meta(ge=1, le=100)]
if TYPE_CHECKING:  # a type checker wants the names written out
    TaskName = str
else:
    TaskName = Literal[tuple(TASKS)]
ManipulationName = Literal[
    "mouth-flip-vertical",
    "mouth-flip-horizontal",
    "eye-flip",
    "face-warp",
    "nose-flip",
    "face-decode",
    "face-smooth",
    "autoencode",
]


@dataclass(frozen=True, slots=True)
class EncoderRecipe:
    """The vision encoder.

    Attributes:
        name: its architecture.
        width: channels of the stem; torchvision's ResNets have 64, EfficientNet-Lite has 32, SDAIE 16.
        embedding_dim: length of the embedding.
        weights: to start from: a run, a file with torchvision's names, or ``hub:OWNER/NAME``; null is random.
        zero_init: from random weights, start every residual branch at zero.
    """

    name: Literal[
        "resnet10", "resnet18", "resnet34", "resnet50", "efficientnet-lite0", "sdaie", "gramnet"
    ] = "resnet50"
    width: Annotated[int, msgspec.Meta(ge=8, le=256)] = 64
    embedding_dim: Annotated[int, msgspec.Meta(ge=8, le=4096)] = 768
    weights: str | None = None
    zero_init: bool = True


@dataclass(frozen=True, slots=True)
class TextRecipe:
    """Where the embeddings of the prompts come from.

    Attributes:
        name: ``gpt2`` or ``clip`` read the prompts; ``table`` learns one vector per prompt, unread.
        layers, width, heads: of the transformer; null is the original's (gpt2 12, 768, 12; clip 12, 512, 8).
        weights: to start from: a file or ``hub:OWNER/NAME``; null is random.
        frozen: the transformer is not trained; a last layer to the embedding's length still is.
        temperature: tau at the start; it is learned.
    """

    name: Literal["gpt2", "clip", "table"] = "gpt2"
    layers: Count | None = None
    width: Count | None = None
    heads: Count | None = None
    weights: str | None = None
    frozen: bool = False
    temperature: Positive = 0.07


@dataclass(frozen=True, slots=True)
class AutoencodeRecipe:
    """How faces are reconstructed by autoencoders, where ``autoencode`` is one of the manipulations.

    Attributes:
        files: ONNX files, or folders of them, that take pictures and give them back; none: small ones of five
            kinds are trained first on the photographs, and kept in the run's folder.
        range: between which values the pixels of these files lie.
        steps: of the training of each of the small ones.
        side: smallest and largest longer side, in pixels, at which the stored picture (1.8 face sides) is
            reconstructed.
        equal_sharpness: probability that a face and its reconstruction are brought to one sharpness.
    """

    files: tuple[str, ...] = ()
    range: tuple[float, float] = (-1.0, 1.0)
    steps: Count = 400
    side: tuple[Annotated[int, msgspec.Meta(ge=64)], Annotated[int, msgspec.Meta(le=2048)]] = (128, 384)
    equal_sharpness: Share = 1.0


@dataclass(frozen=True, slots=True)
class ManipulationRecipe:
    """Which manipulations are made; half of the examples leave the face as it is.

    Attributes:
        names: drawn equally often; a name given twice is drawn twice as often. None at all: every face
            stays as it is.
        pairs: show each face of a minibatch twice, untouched and manipulated, augmented alike: only the
            manipulation tells the two apart. Else untouched or manipulated is drawn face by face.
        autoencode: how ``autoencode`` reconstructs.
    """

    names: tuple[ManipulationName, ...] = (
        "mouth-flip-vertical",
        "mouth-flip-horizontal",
        "eye-flip",
        "face-warp",
    )
    pairs: bool = False
    autoencode: AutoencodeRecipe = field(default_factory=AutoencodeRecipe)


@dataclass(frozen=True, slots=True)
class AugmentationRecipe:
    """Changes made to untouched and manipulated faces alike, so that nothing but the face tells them apart.

    Attributes:
        scale: smallest and largest side of the crop, in face sides.
        shift: largest displacement of the crop, as a share of its side.
        rescale: probability of passing through another size.
        rescale_side: smallest and largest such size in pixels.
        blur, noise, jpeg, colour, flip: probability of each.
        blur_sigma: smallest and largest standard deviation of the blur, in pixels.
        jpeg_twice: JPEG has its probability twice, before and after rescaling; false leaves out the second.
        jpeg_quality: lowest and highest quality.
        window: side in pixels of the part of the 224-pixel crop that the encoder sees in training, cut
            near its middle at full resolution; smaller is faster, 224 is everything.
    """

    scale: tuple[Positive, Positive] = (1.15, 1.45)
    shift: Share = 0.05
    rescale: Share = 0.5
    rescale_side: tuple[Count, Count] = (128, 288)
    blur: Share = 0.2
    blur_sigma: tuple[NotNegative, NotNegative] = (0.3, 1.2)
    noise: Share = 0.2
    jpeg: Share = 0.5
    jpeg_twice: bool = True
    jpeg_quality: tuple[Quality, Quality] = (50, 98)
    colour: Share = 0.5
    flip: Share = 0.5
    window: Annotated[int, msgspec.Meta(ge=64, le=224)] = 224


@dataclass(frozen=True, slots=True)
class OrdinalRecipe:
    """How ordinal tags are learned, see `bladescan.pretext.losses.ordinal_loss`.

    Attributes:
        target: ``ranking`` of pairs (the paper), or ``level``: the prompt of the tag's tercile is the truth.
        probability: ``thurstone`` (the paper) or ``released``.
        pairs: ``all``, or ``upper`` as in the released code.
        ties: count 1 (``higher``, the paper) or 0.5 (``half``, the released code).
    """

    target: Literal["ranking", "level"] = "ranking"
    probability: Literal["thurstone", "released"] = "thurstone"
    pairs: Literal["all", "upper"] = "all"
    ties: Literal["higher", "half"] = "higher"


@dataclass(frozen=True, slots=True)
class LossRecipe:
    """The losses.

    Attributes:
        classes: distance of tasks with classes: ``fidelity`` (the paper) or ``cross-entropy``.
        gamma: focal exponent of categorical tags; 0 is the plain loss.
        eps: added under every square root; 0 is the paper, 1.0e-8 the released code.
        ordinal: how ordinal tags are learned.
    """

    classes: Literal["fidelity", "cross-entropy"] = "fidelity"
    gamma: Gamma = 2.0
    eps: NotNegative = 0.0
    ordinal: OrdinalRecipe = field(default_factory=OrdinalRecipe)


@dataclass(frozen=True, slots=True)
class InnerRecipe:
    """The optimisation of the encoder.

    Attributes:
        optimizer: ``adamw`` (decoupled weight decay) or ``adam``.
        lr: peak learning rate; alpha of the virtual step follows the same course.
        schedule: ``cosine`` after a linear warm-up, or ``plateau``: a tenth of the rate whenever ``patience``
            epochs have not raised the accuracy on photographs kept out by 0.001; below ``final_lr`` it ends.
        patience: epochs that a plateau may last.
        final_lr: where the rate ends.
        betas: of the optimiser.
        batch_size: examples in a step over all processes; with ``manipulations.pairs`` two of each
            photograph.
        epochs: passes over the photographs.
        weight_decay: decoupled for ``adamw``.
        warmup: share of the steps in which the learning rate rises.
        clip_norm: largest gradient norm, 0 for no limit.
    """

    optimizer: Literal["adamw", "adam"] = "adamw"
    lr: Positive = 1.0e-5
    schedule: Literal["cosine", "plateau"] = "cosine"
    patience: Count = 5
    final_lr: NotNegative = 0.0
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    batch_size: Annotated[int, msgspec.Meta(ge=2)] = 48
    epochs: Count = 20
    weight_decay: NotNegative = 1.0e-3
    warmup: Share = 0.0
    clip_norm: NotNegative = 0.0


@dataclass(frozen=True, slots=True)
class OuterRecipe:
    """The optimisation of the task weights by Adam.

    Attributes:
        enabled: false keeps the weights as ``tasks`` gives them.
        lr: of Adam.
        validation: ``held-out`` draws B_val from photographs kept out of B_tr (the paper), ``training``
            from the training set again (the released code).
        every: steps from one move of the task weights to the next; 1 is the paper's, more is faster.
        share: of the photographs that are kept out for B_val, or to see a plateau.
        batch_size: examples of B_val; null is the inner one.
        virtual_weight_decay: the virtual step decays the parameters as well (the released code).
        minimum: no weight falls below; null lets them (the paper).
    """

    enabled: bool = True
    lr: Positive = 3.0e-4
    validation: Literal["held-out", "training"] = "held-out"
    every: Count = 1
    share: Annotated[float, msgspec.Meta(gt=0, le=0.5)] = 0.1
    batch_size: Annotated[int, msgspec.Meta(ge=2)] | None = None
    virtual_weight_decay: bool = False
    minimum: float | None = None


@dataclass(frozen=True, slots=True)
class DataRecipe:
    """Which photographs are learned from.

    Attributes:
        subject: ``face``: the largest face of each photograph; ``image``: squares of photographs with an EXIF
            tag, wherever there is texture; no face is looked for.
        require_all_tags: only photographs with the paper's nine tags, and those of the recipe's own tasks.
        patches: the EXIF tasks also learn from patches of photographs without a face.
        tagged: share of every minibatch that has EXIF tags; 0 takes photographs as they come.
        generated: share of every minibatch that is AI-generated, where origin is learned; 0 takes pictures as
            they come.
        held_out: share of the photographs kept out of everything to measure the tasks on.
        held_out_by: ``content``: by each photograph; ``camera``: whole camera models, so that no camera
            is on both sides.
    """

    subject: Literal["face", "image"] = "face"
    require_all_tags: bool = False
    patches: bool = False
    tagged: Share = 0.0
    generated: Share = 0.0
    held_out: Annotated[float, msgspec.Meta(ge=0, le=0.5)] = 0.1
    held_out_by: Literal["content", "camera"] = "camera"

    @property
    def uses_patches(self) -> bool:
        """Whether photographs without a face, or without one that is looked for, are learned from."""
        return self.patches or self.subject == "image"


@dataclass(frozen=True, slots=True)
class ComputeRecipe:
    """How the arithmetic is done.

    Attributes:
        precision: ``bf16`` runs forward and backward passes in mixed precision; the two probes of the
            outer gradient stay in float32, whose rounding their small difference needs.
        channels_last: memory layout of the convolutions.
        compile: the vision encoder by ``torch.compile``.
    """

    precision: Literal["fp32", "bf16"] = "fp32"
    channels_last: bool = True
    compile: bool = False


@dataclass(frozen=True, slots=True)
class Recipe:
    """A whole training run.

    Attributes:
        name: for people, and in the manifest.
        seed: of weights, order, manipulations and augmentation.
        head: ``joint`` compares images with prompts; ``linear`` has one linear output per class;
            ``scalar`` one output per ordinal tag and one for manipulation (AIGFD-EXIF).
        normalise: scale the embedding to length 1 before a head of the detector sees it.
        tasks: pretext tasks and their weights at the start; the paper's eleven unless named.
        primary: the task that the outer loop serves.
        workers: processes that prepare examples; they change the speed, not the result.
    """

    name: str = "unnamed"
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    encoder: EncoderRecipe = field(default_factory=EncoderRecipe)
    head: Literal["joint", "linear", "scalar"] = "joint"
    normalise: bool = True
    text: TextRecipe = field(default_factory=TextRecipe)
    tasks: Annotated[dict[TaskName, Positive], msgspec.Meta(min_length=1)] = field(
        default_factory=lambda: dict.fromkeys(PAPER_TASKS, 1.0)
    )
    primary: TaskName = "coarse_manipulation"
    losses: LossRecipe = field(default_factory=LossRecipe)
    manipulations: ManipulationRecipe = field(default_factory=ManipulationRecipe)
    augmentation: AugmentationRecipe = field(default_factory=AugmentationRecipe)
    inner: InnerRecipe = field(default_factory=InnerRecipe)
    outer: OuterRecipe = field(default_factory=OuterRecipe)
    data: DataRecipe = field(default_factory=DataRecipe)
    compute: ComputeRecipe = field(default_factory=ComputeRecipe)
    workers: Annotated[int, msgspec.Meta(ge=0, le=64)] = 2

    @property
    def bilevel(self) -> bool:
        """Whether there are task weights to learn: one task needs none."""
        return self.outer.enabled and len(self.tasks) > 1

    @property
    def supervised(self) -> bool:
        """Whether it learns from AI-generated pictures, told apart by whoever gives them."""
        return ORIGIN in self.tasks

    @property
    def required_tags(self) -> tuple[str, ...]:
        """The tags without which a photograph is left out.

        Where all are required, the paper's nine are, whatever the tasks: recipes that differ in their tasks
        then learn from the same photographs.
        """
        if not self.data.require_all_tags:
            return ()
        own = (name for name in self.tasks if name not in WITHOUT_EXIF)
        return tuple(dict.fromkeys((*PAPER_TAGS, *own)))
