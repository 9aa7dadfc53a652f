"""Rows of scans and decks of cards, made here: for pages whose contents a test knows."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from bladescan.outputs.run import SCHEMA_VERSION
from bladescan.reviewing.byte_spool import ByteSpool
from bladescan.reviewing.deck import Deck
from bladescan.reviewing.review import ReviewCounts, ReviewOptions, write_page
from bladescan.reviewing.thumbnail_process import FaceThumbnail, PictureThumbnail, Thumbnails
from bladescan.reviewing.verdict_files import ReviewedFace, ReviewedImage, ReviewedRun, VerdictFile

THRESHOLD = 2.0
HEAD = "binary"
RUN = {"type": "run", "schema_version": SCHEMA_VERSION, "detector": "test-detector", "head": HEAD}
END = {"type": "summary", "complete": True}


def drawn(path: Path, seed: int, side: int = 96) -> Path:
    """Draw a picture that looks like no other."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
    coarse.resize((side, side), Image.Resampling.BICUBIC).save(path)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def face(score: float, box: tuple[float, ...] | None = (20, 20, 80, 85), index: int = 0) -> dict[str, Any]:
    flagged = "ai-generated" if score > THRESHOLD else "not-flagged"
    corners = dict(zip(("x0", "y0", "x1", "y1"), box or (None,) * 4, strict=True))
    return {
        "face": index,
        "frame": 0,
        "rotation": 0,
        "verdict": flagged,
        "head": HEAD,
        "score": score,
        "threshold": THRESHOLD,
        "stability": 0.75,
        "p_value": round(1 / (1 + np.exp(score)), 6),
        **corners,
    }


def explanation(where: str = "lower left") -> dict[str, Any]:
    """What a scan says of a face whose score rests on the cells of the third row."""
    grid = [[1.5 - column if row == 2 else 0.01 for column in range(7)] for row in range(7)]
    return {
        "region": [20.0, 30.0, 50.0, 60.5],
        "where": where,
        "fall": 2.25,
        "grid": grid,
        "stability": 0.833333,
        "flips": ["half-size"],
        "n_photographs": 737,
        "n_as_suspicious": 3,
        "n_as_unlikely": None,
    }


def image(path: Path | str, *faces: dict[str, Any], side: int = 96, **more: Any) -> dict[str, Any]:
    verdicts = {one["verdict"] for one in faces}
    verdict = "ai-generated" if "ai-generated" in verdicts else "not-flagged" if faces else "no-face"
    told = {
        "verdict": verdict,
        "format": "PNG",
        "width": side,
        "height": side,
        "n_frames": 1,
        "declared": "none",
    }
    return {"type": "image", "path": str(path), **told, "faces": list(faces), **more}


def unreadable(path: Path | str, reason: str, detail: str = "") -> dict[str, Any]:
    return {
        "type": "image",
        "path": str(path),
        "verdict": "unreadable",
        "reason": reason,
        "detail": detail,
        "faces": [],
    }


def write_rows(path: Path, images: Iterable[dict[str, Any]], *, run: dict[str, Any] = RUN) -> Path:
    """Write JSON Lines as a scan does."""
    path.write_text("".join(json.dumps(line) + "\n" for line in (run, *images, END)))
    return path


def big_page(
    output: Path, n: int, *, copies: int = 1, spool: ByteSpool, picture: bytes = b""
) -> ReviewCounts:
    """Write a page of ``n`` faces, each in as many files as there are copies, without decoding a picture."""
    deck = Deck(spool, None)
    rng = np.random.default_rng(3)
    looks = rng.integers(0, 2**63, (n, 2), np.uint64)
    for number in range(n * copies):
        look = looks[number // copies]
        scored = ReviewedFace(
            face=0, verdict="not-flagged", x0=10, y0=10, x1=90, y1=90, head=HEAD, threshold=THRESHOLD,
            score=round(10 - number * 12 / (n * copies), 5), p_value=0.5,
        )  # fmt: skip
        row = ReviewedImage(
            path=f"folder-{number % 7}/{number:06}.png", verdict="not-flagged", format="PNG", width=100,
            height=100, declared="none", faces=(scored,),
        )  # fmt: skip
        seen = Thumbnails(
            sha256=hashlib.sha256(str(number).encode()).hexdigest(), format="PNG", width=100, height=100,
            pictures=(PictureThumbnail(0, picture, 100, 100, int(look[0])),),
            faces=(FaceThumbnail(0, picture, int(look[1]), 0.0),),
        )  # fmt: skip
        deck.add(row, seen)
    run = ReviewedRun(detector="test-detector", head=HEAD)
    return write_page(VerdictFile(Path("many.jsonl"), run, iter(()), []), deck, ReviewOptions(output))


def hostile_names() -> list[str]:
    """Names of folders and files that try to become something else, as far as a file system takes them."""
    return [
        '"><img src=x onerror=document.title=1>.png',
        "'-alert(1)-'.png",
        "</script><script>document.title=1<",
        "<!--<script>.png",
        "{{7*7}}{% raw %}.png",
        "line\u2028end\u2029.png",
        "\u202egnp.right-to-left.png",
        "tab\tnew\nline.png",
        os.fsdecode(b"odd-\xff\xfe-bytes.png"),
        "=cmd|' /C calc'!A0.png",
        "__proto__",
        "${alert(1)}`.png",
    ]


def hostile_file(folder: Path, name: str, seed: int) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", (96, 96), (40 * seed % 256, 90, 160))
    rng = np.random.default_rng(seed)
    for _ in range(12):
        x, y = rng.integers(0, 96, 2).tolist()
        ImageDraw.Draw(picture).ellipse(
            (x - 15, y - 15, x + 15, y + 15), fill=tuple(rng.integers(0, 256, 3).tolist())
        )
    with open(path, "wb") as file:
        picture.save(file, "PNG")
    return path
