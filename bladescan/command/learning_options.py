"""The options of the commands that learn, as annotated types: their names, help and limits. No behaviour."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

Photos = Annotated[
    list[str],
    Option(
        metavar="DIR",
        help="Photographs: a folder, a file, @FILE for a list of names, or - for names on stdin. Repeatable.",
    ),
]
PhotoPaths = Annotated[
    list[str],
    Argument(
        metavar="PATH...",
        help="Photographs: folders, files, @FILE for a list of names, or - for stdin.",
    ),
]
IndexFile = Annotated[
    Path | None,
    Option(
        "--index",
        metavar="FILE",
        help="Index of photographs to use and add to. Default: photographs.sqlite beside the output.",
    ),
]
AiGenerated = Annotated[
    list[str] | None,
    Option(
        metavar="DIR", help="AI-generated faces, given like --photos; they add the binary head. Repeatable."
    ),
]
LabelledGenerated = Annotated[
    list[str] | None,
    Option(
        "--ai-generated",
        metavar="DIR",
        help="AI-generated faces, given like --photos, for recipes that learn from them. Repeatable.",
    ),
]
Generators = Annotated[
    list[str],
    Option(
        "--ai-generated",
        metavar="NAME=DIR",
        help="Images of one generator and its name in the report, for example sdxl=DIR. Repeatable.",
    ),
]
ReportOutput = Annotated[
    Path, Option("--output", "-o", metavar="FOLDER", help="Folder for the report; it must be new or empty.")
]
Matched = Annotated[
    bool,
    Option(
        "--match",
        help="First bring all crops to one size and one JPEG quality, so that neither gives a class away.",
    ),
]
Calibrate = Annotated[
    list[str] | None,
    Option(
        metavar="DIR",
        help="Photographs that only set the thresholds. Default: a share of --photos. Repeatable.",
    ),
]
EncoderPath = Annotated[
    str,
    Option(
        "--encoder",
        metavar="RUN",
        help="Encoder run of `bladescan train`, or a .safetensors detector whose encoder is taken. The word "
        "`default` means the one that scans; the name of one that ships does, too. `onnx:FILE` is any other "
        "image encoder, and `torch:FILE` weights of a known one.",
        show_default="the encoder of the detector that scans",
    ),
]
EmbeddingBackend = Annotated[
    str,
    Option(
        "--backend",
        metavar="NAME",
        help="Runtime that embeds the faces, or auto. `bladescan backends` lists the names.",
    ),
]
EncoderChanges = Annotated[
    list[str] | None,
    Option(
        "--set",
        metavar="KEY=VALUE",
        help="Say something of the encoder that its file does not, for example encoder.output=block6,block7. "
        "Repeatable.",
    ),
]
BinaryHead = Annotated[
    str,
    Option(
        metavar="NAME",
        help="Binary head: perceptron (the paper), logistic (logistic regression), or auto: logistic over an "
        "encoder that is not ours.",
    ),
]
FitCombine = Annotated[
    str | None,
    Option(
        "--combine",
        metavar="stouffer|min",
        help="Also join the p-values of both heads into one, calibrated on the photographs; it decides.",
    ),
]
FitSubject = Annotated[
    Literal["face", "image"],
    Option(
        "--subject",
        metavar="face|image",
        help="What the detector is to judge: faces, or whole pictures, with or without a face.",
    ),
]
ViewChoice = Annotated[
    Literal["tiles", "centre", "square"],
    Option(
        "--view",
        metavar="tiles|centre|square",
        help="With --subject image: what is seen of a picture: tiles spread over it, the one in its centre, "
        "or its middle square made small.",
    ),
]
TileSide = Annotated[
    int,
    Option(
        metavar="PX",
        help="With --subject image: side of a tile in pixels of the picture; other than 224 it is resized.",
    ),
]
MostTiles = Annotated[
    int, Option(metavar="N", help="With --subject image: tiles of one picture at most, 1 to 64.")
]
JoinChoice = Annotated[
    Literal["mean", "top"],
    Option(
        metavar="mean|top",
        help="With --subject image: the score of a picture is the mean over its tiles, or over the most "
        "suspicious quarter of them.",
    ),
]
Embeddings = Annotated[
    Path | None,
    Option(
        metavar="FILE",
        help="File to keep embeddings in and take from: a second fit on the same pictures takes seconds.",
    ),
]
FittedOutput = Annotated[
    Path,
    Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Detector to write (.safetensors or .onnx; .onnx over an encoder that is not ours).",
    ),
]
DetectorOutput = Annotated[
    Path, Option("--output", "-o", metavar="FILE", help="Detector to write (.safetensors).")
]
Seed = Annotated[int, Option(metavar="N", min=0, help="Random seed; the same seed gives the same bytes.")]
SetOption = Annotated[
    list[str] | None,
    Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a key of the recipe, for example inner.lr=3.0e-5. Repeatable.",
    ),
]
Name = Annotated[str, Option(metavar="NAME", help="Name of the new detector. Default: the file name.")]
Licence = Annotated[str, Option(metavar="NAME", help="Licence of the new detector. Default: the encoder's.")]
Covariance = Annotated[
    str,
    Option(
        metavar="NAME",
        help="Covariances: full (the paper), tied, diag, spherical, or auto (by held-out likelihood).",
    ),
]
Components = Annotated[int, Option(metavar="N", min=1, help="Components of the mixture.")]
HeldOut = Annotated[
    float,
    Option(metavar="SHARE", help="Share of the photographs that is kept for the calibration."),
]
FitFalseAlarm = Annotated[float, Option(metavar="RATE", help="False-alarm rate of the detector.")]
GroupBy = Annotated[
    str,
    Option(
        metavar="file|folder",
        help="Keep all faces of one file, or of one folder, on one side: fit or calibration.",
    ),
]
By = Annotated[
    str,
    Option(
        "--by",
        metavar="file|folder|strictest-folder",
        help="Over what the rate holds. file: photographs like these. folder: folders like these, side by "
        "side, on average; a rate of 5% needs 19. strictest-folder: each folder alone.",
    ),
]
Copies = Annotated[
    int,
    Option(min=0, max=16, metavar="N", help="Degraded copies of each face that the heads also learn from."),
]
PseudoOutliers = Annotated[
    int,
    Option(
        min=0,
        metavar="N",
        help="Unlikely draws from the mixture that the binary head learns as AI-generated.",
    ),
]
CalibrateOutput = Annotated[
    Path,
    Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Detector to write (.onnx, .safetensors, .cascade or .combined), of the form that it has.",
    ),
]
Detector = Annotated[
    str | None,
    Argument(help="Detector to calibrate: one that ships, or a file. Default: the one that scans."),
]
First = Annotated[
    str, Argument(metavar="FIRST", help="Detector that sees every face: one that ships, or a file.")
]
Second = Annotated[
    str, Argument(metavar="SECOND", help="Detector that sees those that the first does not clear.")
]
Combined = Annotated[
    list[str],
    Argument(
        metavar="DETECTOR...",
        help="Detectors: those that ship, or files. A single one is combined of its heads.",
    ),
]
CombinedOutput = Annotated[
    Path,
    Option("--output", "-o", metavar="FILE", help="File to write (.combined); its detectors go beside it."),
]
Rule = Annotated[
    str,
    Option(metavar="stouffer|min", help="Rule: stouffer (all count), or min (the most suspicious counts)."),
]
CombinedHead = Annotated[
    str,
    Option("--head", metavar="HEAD", help="Head of each: one-class, binary, all, or auto (its own choice)."),
]
CascadeOutput = Annotated[
    Path,
    Option("--output", "-o", metavar="FILE", help="Cascade to write (.cascade); its detectors go beside it."),
]
Clear = Annotated[
    float, Option(metavar="SHARE", help="Share of the photographs' faces that the first clears alone.")
]
Weight = Annotated[
    float,
    Option(metavar="SHARE", help="Weight of the second's score where both count; the first's is the rest."),
]
CalibrateFalseAlarm = Annotated[float, Option(metavar="RATE", help="False-alarm rate of the new detector.")]
ExportOutput = Annotated[
    Path,
    Option("--output", "-o", metavar="FILE", help="Exported detector to write (.onnx or .engine)."),
]
ExportDetector = Annotated[
    str | None,
    Argument(
        help="Detector to export: one that ships, or a file (.safetensors; for ONNX in int8 also .onnx). "
        "Default: the first that ships in such a form."
    ),
]
To = Annotated[str, Option(metavar="onnx|tensorrt", help="Runtime to export for.")]
ExportPrecision = Annotated[
    str,
    Option(
        metavar="fp32|fp16|int8",
        help="fp32, fp16 (tensorrt only), int8 (needs --photos), or auto: fp16 for tensorrt, else fp32.",
    ),
]
ExportPhotos = Annotated[
    list[str] | None,
    Option(
        metavar="DIR",
        help="Photographs that set the ranges of int8, and show what it changes. Repeatable.",
    ),
]
MaxBatch = Annotated[
    int,
    Option(metavar="N", min=1, max=4096, help="Most faces that a TensorRT engine scores at once."),
]
Builder = Annotated[
    str,
    Option(
        metavar="parser|torch-tensorrt",
        help="What builds a TensorRT engine: TensorRT's ONNX parser, or torch-tensorrt. Default: "
        "torch-tensorrt where it is installed and can, else the parser.",
        show_default=False,
    ),
]
EvaluateDetector = Annotated[
    str | None,
    Argument(help="Detector: one that ships, or a file. Default: the one that scans."),
]
TrainOutput = Annotated[
    Path, Option("--output", "-o", metavar="RUN", help="Folder of the encoder run to write.")
]
Recipe = Annotated[str, Option(metavar="NAME", help="Name or file of a recipe; see `bladescan recipes`.")]
TrainResume = Annotated[bool, Option("--resume", help="Continue the run from its last checkpoint.")]
CheckpointEvery = Annotated[
    float, Option(metavar="SECONDS", min=0, help="Time between two checkpoints within an epoch.")
]
Tensorboard = Annotated[bool, Option("--tensorboard", help="Also write RUN/tensorboard.")]
RecipesName = Annotated[str, Argument(help="Recipe to print.")]
IndexOutput = Annotated[Path, Option("--output", "-o", metavar="FILE", help="Index to create or add to.")]
Plot = Annotated[Path | None, Option(metavar="FILE", help="Also draw the summary, as a PNG.")]
ContactSheetOutput = Annotated[Path, Option("--output", "-o", metavar="FILE", help="PNG to write.")]
N = Annotated[int, Option("--n", metavar="N", min=1, help="Most examples on the sheet.")]
ContactSheetSeed = Annotated[int, Option(metavar="N", min=0, help="Random seed; it chooses the photographs.")]
Checkpoint = Annotated[
    Path,
    Argument(help="OC.pth, BC.pth, or the checkpoint of AIGFD-EXIF; with --as detector an .onnx file."),
]
ImportAs = Annotated[
    str,
    Option(
        "--as",
        metavar="checkpoint|detector",
        help="What the file is: a checkpoint of the method's authors, or any other detector in ONNX.",
    ),
]
DetectorRecipe = Annotated[
    str,
    Option(
        "--recipe",
        metavar="NAME",
        help="What is known of another detector: a name in the package, such as cnnd, or a YAML file.",
    ),
]
DetectorChanges = Annotated[
    list[str] | None,
    Option(
        "--set",
        metavar="KEY=VALUE",
        help="Say something of another detector, for example detector.kind=logit. Repeatable.",
    ),
]
HeadEncoder = Annotated[
    str,
    Option(
        "--encoder",
        metavar="ENCODER",
        help="The file is a linear head over this encoder, onnx:FILE or torch:FILE, as UnivFD publishes it.",
    ),
]
ImportCheckpointOutput = Annotated[
    Path,
    Option(
        "--output",
        "-o",
        metavar="OUT",
        help="Encoder run (a folder) to write, or with --photos a detector (.safetensors; .onnx of another).",
    ),
]
ImportCheckpointPhotos = Annotated[
    list[str] | None,
    Option(metavar="DIR", help="Photographs that calibrate BC.pth or another detector. Repeatable."),
]
ImportCheckpointName = Annotated[str, Option(metavar="NAME", help="Name of the run or the detector.")]
ImportCheckpointFalseAlarm = Annotated[
    float, Option(metavar="RATE", help="False-alarm rate of the detector.")
]
