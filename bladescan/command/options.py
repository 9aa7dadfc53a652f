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
        help="What to scan: files, folders with everything below them, URLs (s3://bucket/prefix/, gs://, "
        "az://, https://), or - to read names from standard input."
    ),
]
FilesFrom = Annotated[
    str | None,
    Option(metavar="FILE", help="Read the names to scan from FILE, one a line.", rich_help_panel=SOURCE),
]
Null = Annotated[
    bool,
    Option("--null", "-0", help="Names in lists end with NUL instead of a newline.", rich_help_panel=SOURCE),
]
Include = Annotated[
    list[str] | None,
    Option(
        metavar="GLOB",
        help="In folders, scan only files that match, for example '*.jpg'. Repeatable.",
        rich_help_panel=SOURCE,
    ),
]
Exclude = Annotated[
    list[str] | None,
    Option(metavar="GLOB", help="In folders, skip what matches. Repeatable.", rich_help_panel=SOURCE),
]
Hidden = Annotated[
    bool,
    Option("--hidden", help="In folders, scan names that begin with a dot as well.", rich_help_panel=SOURCE),
]
FollowLinks = Annotated[
    bool, Option("--follow-links", help="Enter folders behind symbolic links.", rich_help_panel=SOURCE)
]
AllFiles = Annotated[
    bool,
    Option(
        "--all-files",
        help="In folders, give files that are no pictures (text, video, ...) a row as well.",
        rich_help_panel=SOURCE,
    ),
]
Shard = Annotated[
    str | None,
    Option(
        metavar="I/N",
        help="Scan only part I of N, for example 3/16. A hash of the name decides.",
        rich_help_panel=SOURCE,
    ),
]
Model = Annotated[
    str | None,
    Option(
        "--model",
        "--detector",
        metavar="NAME",
        help="Detector: the name of one that ships (`bladescan info` lists them), or a file (.onnx, "
        ".safetensors, .cascade, .combined or .engine). Default: the one that `bladescan info` marks.",
        rich_help_panel=SCORE,
    ),
]
Models = Annotated[
    list[str] | None,
    Option(
        "--model",
        "--detector",
        metavar="NAME",
        help="Detector: the name of one that ships (`bladescan info` lists them), or a file (.onnx, "
        ".safetensors, .cascade, .combined or .engine). Default: the one that `bladescan info` marks. "
        "Repeatable with --combine.",
        rich_help_panel=SCORE,
    ),
]
Combine = Annotated[
    str | None,
    Option(
        metavar="stouffer|min",
        help="Several --model: join their p-values into one, which decides; each also has its own columns. "
        "With one --model: the p-values of its heads.",
        rich_help_panel=SCORE,
    ),
]
SubjectChoice = Annotated[
    str,
    Option(
        "--subject",
        metavar="auto|face|image|both",
        help="What is judged: faces, each picture as a whole, or both. auto is what the detectors were made "
        "for.",
        rich_help_panel=SCORE,
    ),
]
ImageModel = Annotated[
    str | None,
    Option(
        "--image-model",
        metavar="FILE",
        help="Detector made for whole pictures (`bladescan fit --subject image`), beside that of faces, or "
        "alone with --subject image.",
        rich_help_panel=SCORE,
    ),
]
Head = Annotated[
    str,
    Option(
        help="Head that decides: one-class, binary, combined, or auto (the detector's own choice).",
        metavar="HEAD",
        rich_help_panel=SCORE,
    ),
]
FalseAlarm = Annotated[
    float | None,
    Option(
        metavar="RATE",
        help="Share of photographs that may be called AI-generated. Default: the detector's rate, which is "
        "0.05 unless somebody chose another.",
        rich_help_panel=SCORE,
    ),
]
Fdr = Annotated[
    float | None,
    Option(
        metavar="RATE",
        help="In place of --false-alarm: limit the expected share of photographs among the flagged faces "
        "(Benjamini-Hochberg).",
        rich_help_panel=SCORE,
    ),
]
Storey = Annotated[
    bool,
    Option(
        "--storey",
        help="With --fdr: estimate the share of photographs among the faces (Storey) instead of taking every "
        "face for one. Flags more where many are AI-generated.",
        rich_help_panel=SCORE,
    ),
]
Stability = Annotated[
    bool,
    Option(
        "--stability",
        help="Score faces near the threshold also after harmless changes (JPEG, half size, shifted crops); "
        "those whose verdict does not last are unsure.",
        rich_help_panel=SCORE,
    ),
]
StabilityLimit = Annotated[
    float | None,
    Option(
        metavar="SHARE",
        help="With --stability: least share of the changed faces that must agree. Default: 0.75.",
        rich_help_panel=SCORE,
    ),
]
Explain = Annotated[
    bool,
    Option(
        "--explain",
        help="Say of each flagged face what its score rests on: a map, the strongest region, how it outlasts "
        "re-shipping, its rank among photographs. 55 more runs of the detector for each.",
        rich_help_panel=SCORE,
    ),
]
Declared = Annotated[
    str,
    Option(
        metavar="flag|report|ignore",
        help="What files say of themselves (C2PA, IPTC, generators' marks): flag images that are declared "
        "AI-generated, only report what is declared, or ignore it.",
        rich_help_panel=SCORE,
    ),
]
TrustList = Annotated[
    Path | None,
    Option(
        metavar="FILE",
        help="PEM certificates of the authorities whose C2PA signers are trusted. Nothing is fetched.",
        rich_help_panel=SCORE,
    ),
]
Faces = Annotated[
    str,
    Option(
        metavar="NAME",
        help="Face finder: auto, yunet, mtcnn, insightface[:PACK or FILE], or none (each image is one "
        "face crop).",
        rich_help_panel=FACES,
    ),
]
MinFace = Annotated[
    int,
    Option(
        metavar="PX",
        min=1,
        help="Ignore faces whose longer side is shorter than PX pixels.",
        rich_help_panel=FACES,
    ),
]
Output = Annotated[
    str | None,
    Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write verdicts to FILE (.csv, .json, .jsonl, .parquet), also in a bucket (s3://...). It "
        "appears only when complete.",
        rich_help_panel=OUTPUT,
    ),
]
Format = Annotated[
    str,
    Option(
        metavar="NAME",
        help="csv, json, jsonl, parquet, table, or auto: by the suffix of the file, else a table on a "
        "terminal and CSV in a pipe.",
        rich_help_panel=OUTPUT,
    ),
]
Report = Annotated[
    Path | None,
    Option(
        metavar="PAGE",
        help="When the scan is done, make a page for people to look at: a file (.html), or a new folder for "
        "more than 5,000 faces. See `bladescan report`.",
        rich_help_panel=OUTPUT,
    ),
]
Resume = Annotated[
    bool,
    Option("--resume", help="Continue a killed scan that had the same output.", rich_help_panel=OUTPUT),
]
LedgerFile = Annotated[
    str | None,
    Option(
        "--ledger",
        metavar="FILE",
        help="Remember verdicts in FILE, and skip sources that have not changed since. Rows also say what "
        "reviewers decided, and --report leaves that out.",
        rich_help_panel=OUTPUT,
    ),
]
Show = Annotated[
    str,
    Option(
        metavar="all|new",
        help="With --ledger: write rows for all sources, or only for those scanned now.",
        rich_help_panel=OUTPUT,
    ),
]
Sort = Annotated[
    str,
    Option(
        metavar="auto|listed|score",
        help="Order of the images: as listed, or the most suspicious first (score). auto sorts a table on a "
        "terminal, and with --top.",
        rich_help_panel=OUTPUT,
    ),
]
Top = Annotated[
    int | None,
    Option(
        metavar="N",
        min=1,
        help="Write rows for the N most suspicious images only. All are scanned and counted.",
        rich_help_panel=OUTPUT,
    ),
]
Prompts = Annotated[
    bool,
    Option(
        "--prompts",
        help="In JSON and JSON Lines, write the prompts that generators leave in files, which speak of "
        "people.",
        rich_help_panel=OUTPUT,
    ),
]
FailOn = Annotated[
    str,
    Option(
        metavar="WHAT",
        help="What makes the exit code other than 0: flagged (1), unsure (1), unreadable (3; 4 where both "
        "happen), or none. In place of flagged: reviewed, what is so after the decisions in the ledger.",
        rich_help_panel=OUTPUT,
    ),
]
AllowEmpty = Annotated[
    bool,
    Option(
        "--allow-empty",
        help="Exit with 0 instead of 3 when there is nothing to scan.",
        rich_help_panel=OUTPUT,
    ),
]
Quiet = Annotated[
    bool, Option("--quiet", "-q", help="Print no progress, warnings or summary.", rich_help_panel=OUTPUT)
]
Verbose = Annotated[
    bool,
    Option(
        "--verbose",
        "-v",
        help="On a terminal, name every unreadable file, not only the first five.",
        rich_help_panel=OUTPUT,
    ),
]
MaxErrors = Annotated[
    int | None,
    Option(
        metavar="N",
        min=0,
        help="Stop when more than N sources are unreadable, and keep what is finished.",
        rich_help_panel=RUN,
    ),
]
LogFormat = Annotated[
    Literal["text", "json"] | None,
    Option(
        metavar="text|json",
        envvar="BLADESCAN_LOG_FORMAT",
        help="Messages on standard error as text (default) or as one JSON object a line.",
        rich_help_panel=LOGS,
    ),
]
LogPaths = Annotated[
    Literal["plain", "hashed"] | None,
    Option(
        metavar="plain|hashed",
        envvar="BLADESCAN_LOG_PATHS",
        help="Names of scanned files on standard error: plain (default in text) or hashed (default in JSON).",
        rich_help_panel=LOGS,
    ),
]
MetricsPath = Annotated[
    Path | None,
    Option(
        "--metrics",
        metavar="FILE",
        help="Write counts and times to FILE (.prom) for Prometheus, also when the scan fails.",
        rich_help_panel=LOGS,
    ),
]
Debug = Annotated[
    bool, Option("--debug", help="Show tracebacks and the output of decoders.", rich_help_panel=RUN)
]
BackendName = Annotated[
    str,
    Option(
        "--backend",
        metavar="NAME",
        help="Runtime of the detector, or auto. `bladescan backends` lists the names.",
        rich_help_panel=RUN,
    ),
]
Device = Annotated[
    str,
    Option(
        metavar="NAME",
        help="auto, cpu, cuda or cuda:N. A device that is not available is an error.",
        rich_help_panel=RUN,
    ),
]
Precision = Annotated[
    str,
    Option(
        metavar="NAME",
        help="fp32; bf16 with the openvino or pytorch backend; fp16 with pytorch.",
        rich_help_panel=RUN,
    ),
]
Workers = Annotated[
    int,
    Option(
        metavar="N",
        min=0,
        help="Processes that scan; 0 means one for each core. With 1, decoding still uses every core.",
        rich_help_panel=RUN,
    ),
]
Cluster = Annotated[
    str | None,
    Option(
        metavar="ADDRESS",
        help="Scan on a Dask or Ray cluster, for example dask:tcp://HOST:8786 or ray:auto.",
        rich_help_panel=RUN,
    ),
]
BatchSize = Annotated[
    int | None,
    Option(
        metavar="N",
        min=1,
        max=4096,
        help="Most faces that the detector scores at once. Default: 8, or 64 on a CUDA device.",
        show_default=False,
        rich_help_panel=RUN,
    ),
]
MaxBytes = Annotated[
    str,
    Option(metavar="SIZE", help="Largest file to read, for example 500K, 100M or 2G.", rich_help_panel=RUN),
]
MaxPixels = Annotated[
    str,
    Option(metavar="N", help="Largest image to decode, in pixels, for example 100M.", rich_help_panel=RUN),
]
MaxFrames = Annotated[
    int,
    Option(
        metavar="N",
        min=1,
        help="Most frames to scan of an animation, spread evenly over it.",
        rich_help_panel=RUN,
    ),
]
Timeout = Annotated[
    float,
    Option(
        metavar="SECONDS",
        min=0.1,
        max=86400,
        help="Longest time for decoding one image.",
        rich_help_panel=RUN,
    ),
]
