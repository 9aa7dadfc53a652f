"""A review from a file of verdicts: one page for people to look at, in a file of its own or in a folder."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import DataError, OutputError, UsageError
from bladescan.base.output_files import open_output
from bladescan.base.text import counted, printable
from bladescan.detectors.manifest import Manifest
from bladescan.detectors.suspicion import suspicion
from bladescan.images.limits import Limits
from bladescan.ledger.ledger import open_reader
from bladescan.reviewing.byte_spool import open_byte_spool
from bladescan.reviewing.deck import LOOKS, Card, Deck, Stack
from bladescan.reviewing.earlier_decisions import EarlierDecisions
from bladescan.reviewing.score_curve import ScoreCurve, score_curve
from bladescan.reviewing.small_pictures import thumbnail_pool, with_thumbnails
from bladescan.reviewing.thumbnail_process import ThumbnailSettings
from bladescan.reviewing.verdict_files import ReviewedRun, VerdictFile, open_verdicts
from bladescan.reviewing.weak_spots import WORDS

if TYPE_CHECKING:
    from markupsafe import Markup

MOST_IN_FILE = 5000
"""Cards of a page in one file: some 100 MB, which browsers still open."""
CHUNK = 50
"""Cards that the page loads at once: about 1 MB."""
PAGE_SUFFIXES = (".html", ".htm")
_LONGEST_SCAN = timedelta(days=30)
_SCRIPTS = (
    "deck.js",
    "elements.js",
    "explanation.js",
    "card.js",
    "decisions.js",
    "filters.js",
    "feed.js",
    "review.js",
)
_KINDS = {"float32": "f4", "uint8": "u1", "uint16": "u2", "uint32": "u4"}
_COLUMNS = {
    "score": np.float32,
    "verdict": np.uint8,
    "declared": np.uint8,
    "reason": np.uint8,
    "spots": np.uint8,
    "side": np.uint16,
    "folder": np.uint32,
    "listed": np.uint32,
}


@dataclass(frozen=True, slots=True)
class ReviewOptions:
    """What the user asks of a review.

    Attributes:
        output: a name that ends in ``.html`` for one file, any other for a new folder.
        manifest: of the detector whose calibration is drawn behind the scores, None for no drawing.
        title: of the page; "" names the file of verdicts.
        blur: whether faces are blurred until they are asked for.
        limits, timeout_s: of images, as for a scan.
        n_processes: that make thumbnails.
        ledger: file that keeps earlier decisions, None for none.
        show_decided: whether what they settle gets a card all the same.
    """

    output: Path
    manifest: Manifest | None = None
    title: str = ""
    blur: bool = False
    limits: Limits = Limits()
    timeout_s: float = 30.0
    n_processes: int = 1
    ledger: str | None = None
    show_decided: bool = False


@dataclass(frozen=True, slots=True)
class ReviewCounts:
    """What a review shows.

    Attributes:
        page: the file to open.
        n_cards, n_rows: cards, and rows of the scan behind them.
        n_missing: rows whose file could not be read any more.
        n_decided, n_like_decided: faces without a card, decided before themselves or in a near-duplicate.
    """

    page: Path
    n_cards: int
    n_rows: int
    n_missing: int
    n_decided: int = 0
    n_like_decided: int = 0


def write_review(
    verdicts: Path, options: ReviewOptions, *, seen: Callable[[int], None] = lambda n: None
) -> ReviewCounts:
    """Read verdicts, look at every picture again, and write the page.

    Pictures are opened in processes of their own; a file of 5,000 cards or fewer, or a folder of any number.

    Args:
        verdicts: of a scan, in CSV, JSON, JSON Lines or Parquet.
        options: what the user asks.
        seen: told of each image looked at.

    Raises:
        UsageError: the file of verdicts is not there, or too many for one file.
        DataError: it holds no verdicts.
        OutputError: the page cannot be written.
    """
    opened = open_verdicts(verdicts)
    with open_byte_spool() as spool:
        earlier = _earlier(options.ledger)
        deck = Deck(spool, _began(opened), earlier, show_decided=options.show_decided)
        settings = ThumbnailSettings(
            **({} if options.manifest is None else {"face_rule": options.manifest.face_rule}),
            limits=options.limits,
            timeout_s=options.timeout_s,
        )
        with thumbnail_pool(options.n_processes, settings) as pool:
            pool.start()
            for image, thumbnails in with_thumbnails(opened.images, pool):
                deck.add(image, thumbnails)
                seen(1)
                if is_one_file(options.output) and len(deck) > MOST_IN_FILE:
                    raise UsageError(
                        f"--output {options.output}: more than {MOST_IN_FILE} faces are too many for one "
                        f"file: give the name of a folder, for example {options.output.with_suffix('')}"
                    )
        return write_page(opened, deck, options)


def write_page(opened: VerdictFile, deck: Deck, options: ReviewOptions) -> ReviewCounts:
    """Write the page of a deck to which every card was added.

    Args:
        opened: the file of verdicts, read to its end.
        deck: its cards.
        options: what the user asks.

    Raises:
        DataError: there is no card.
        OutputError: the page cannot be written.
    """
    if not (len(deck) or deck.n_decided or deck.n_like_decided):
        raise DataError(f"{opened.path}: no image was scanned, so there is nothing to review")
    return _write(_Page(opened, deck, deck.stack(), options))


def _earlier(ledger: str | None) -> EarlierDecisions:
    """Read what was decided before."""
    if ledger is None:
        return EarlierDecisions()
    with open_reader(ledger) as reader:
        return EarlierDecisions(reader.decisions())


def is_one_file(output: Path) -> bool:
    """Tell whether a review of this name is one file, and not a folder."""
    return output.suffix.lower() in PAGE_SUFFIXES


def _began(opened: VerdictFile) -> datetime | None:
    """Tell when the scan began: a file changed later is another. A CSV says only when it was written.

    A run under ``SOURCE_DATE_EPOCH`` says a time that is not its own: no scan takes a month.
    """
    try:
        written = datetime.fromtimestamp(opened.path.stat().st_mtime, UTC)
        said = datetime.fromisoformat(opened.run.started).astimezone(UTC) if opened.run.started else written
    except (ValueError, OSError, OverflowError):
        return None
    return said if written - said < _LONGEST_SCAN else written


class _Page:
    """All that one page says."""

    def __init__(self, opened: VerdictFile, deck: Deck, stack: Stack, options: ReviewOptions) -> None:
        self.opened, self.deck, self.stack, self.options = opened, deck, stack, options
        self.n_chunks = -(-len(stack) // CHUNK)
        self.curve, self.cautions = _curve(deck, opened.run, options.manifest)
        self.cautions = [*opened.cautions, *self.cautions, *_left_out(deck)]

    def pieces(self) -> Iterator[bytes]:
        """Render the page; in one file, the chunks with it."""
        from markupsafe import Markup

        from bladescan.reviewing.html_page import SHELL, as_inert_json, render_page

        one_file = is_one_file(self.options.output)
        return render_page(
            SHELL,
            "review.html.jinja",
            title=printable(self.options.title or f"Review of {self.opened.path.name}"),
            scripts=_SCRIPTS,
            styles=("review.css",),
            loads_scripts=not one_file,
            blur=self.options.blur,
            made_by=_made_by(self.opened.run, self.deck),
            cautions=self.cautions,
            about_score=_about_score(self.curve),
            deck=Markup(as_inert_json(self._told())),
            chunks=self._inline() if one_file else [],
        )

    def _inline(self) -> Iterator[Markup]:
        from markupsafe import Markup

        return (Markup(self.chunk(number)) for number in range(self.n_chunks))

    def chunk(self, number: int) -> str:
        """Return the cards of one chunk as JSON that is inert in a page and in a script."""
        from bladescan.reviewing.html_page import as_inert_json

        pictures: dict[str, str] = {}
        cards = []
        for card in self.stack.cards(number * CHUNK, (number + 1) * CHUNK):
            if card.picture:
                pictures.setdefault(str(card.picture_key), base64.b64encode(card.picture).decode())
            cards.append(_card(card))
        return as_inert_json({"pictures": pictures, "cards": cards})

    def _told(self) -> dict[str, Any]:
        """Collect what the page sorts and filters by."""
        stack, deck = self.stack, self.deck
        columns = {name: _packed(stack.column(name), kind) for name, kind in _COLUMNS.items()}
        columns["copies"] = _packed(stack.n_copies, np.uint32)
        return {
            "id": stack.digest(),
            "count": len(stack),
            "faces": len(deck),
            "chunk": CHUNK,
            "folder": not is_one_file(self.options.output),
            "explained": deck.n_explained > 0,
            "curve": None if self.curve is None else self.curve._asdict(),
            "threshold": _threshold(deck)[1] if deck.thresholds else 0.0,
            "spots": [{"bit": int(spot), **words._asdict()} for spot, words in WORDS.items()],
            "words": {
                "verdict": deck.verdicts.words(),
                "declared": deck.declared.words(),
                "reason": deck.reasons.words(),
                "folder": deck.folders.words(),
            },
            "columns": columns,
        }


def _packed(values: NDArray[Any], kind: type) -> list[str]:
    """Encode a column: how a script reads it, and its bytes."""
    plain = np.ascontiguousarray(values.astype(kind)).astype(np.dtype(kind).newbyteorder("<"))
    return [_KINDS[np.dtype(kind).name], base64.b64encode(plain.tobytes()).decode()]


def _card(card: Card) -> Mapping[str, Any]:
    names = ("path", "sha256", "face", "verdict", "score", *LOOKS)
    pictures = {"crop": base64.b64encode(card.crop).decode()} if card.crop else {}
    if card.picture:
        pictures["picture"] = str(card.picture_key)
    copies = [{name: copy[name] for name in names if name in copy} for copy in card.copies]
    return card.told | pictures | {"copies": copies}


def _threshold(deck: Deck) -> tuple[str, float]:
    """Choose the head and threshold of most faces: rows of several runs may stand in one file."""
    return max(deck.thresholds, key=lambda decided: deck.thresholds[decided])


def _curve(deck: Deck, run: ReviewedRun, manifest: Manifest | None) -> tuple[ScoreCurve | None, list[str]]:
    """Choose the histogram of the detector that made the verdicts, or say why there is none."""
    if not deck.thresholds:
        return None, []
    head, threshold = _threshold(deck)
    curve = None if manifest is None else score_curve(manifest, head, deck.highest)
    if curve is not None and manifest is not None and _is_of(manifest, curve.head, threshold):
        return curve, []
    made = f" ({printable(run.detector)})" if run.detector else ""
    said = "No histogram is drawn behind the scores: give the detector that made these verdicts"
    return None, [f"{said}{made} as --model."]


def _is_of(manifest: Manifest, head: str, threshold: float) -> bool:
    """Tell whether a threshold comes from a calibration: then it is one of its scores, to the last digit."""
    return any(
        bool((suspicion(calibrated.calibration, name) == threshold).any())
        for name, calibrated in manifest.heads.items()
        if name == head
    )


def _made_by(run: ReviewedRun, deck: Deck) -> str:
    said = [f"{counted(len(deck), 'row')} of a scan"]
    if run.detector:
        said.append(f"detector {run.detector}")
    if deck.thresholds:
        head, threshold = _threshold(deck)
        said.append(f"{head} head, flagged above {threshold:.4g}")
    if run.false_alarm is not None:
        said.append(f"{100 * run.false_alarm:g}% false alarms asked")
    if run.fdr is not None:
        said.append(f"false-discovery rate {run.fdr:g}")
    if run.started:
        said.append(f"scanned {run.started}")
    return printable(", ".join(said))


def _left_out(deck: Deck) -> list[str]:
    """Say what has no card because somebody decided on it before."""
    n = deck.n_decided + deck.n_like_decided
    if not n:
        return []
    alike = f", {deck.n_like_decided} as near-duplicates of AI-generated ones" if deck.n_like_decided else ""
    return [f"{n} decided earlier {'has' if n == 1 else 'have'} no card{alike}."]


def _about_score(curve: ScoreCurve | None) -> str:
    if curve is None:
        return "Higher scores are more suspicious. Without the detector's calibration there is no histogram."
    return (
        f"Grey: the scores of {curve.n_photographs} photographs that set the threshold; to the right is more "
        "suspicious. Dashed: the threshold; the shaded range beyond it is flagged. Thick: this face. The "
        "p-value is the share of those photographs that look as suspicious or more."
    )


def _write(page: _Page) -> ReviewCounts:
    output = page.options.output
    if is_one_file(output):
        _write_file(output, page.pieces())
        return _counts(page, output)
    rows = output / "rows"
    try:
        rows.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise OutputError(f"cannot write {rows}: {exc.strerror or exc}") from exc
    for number in range(page.n_chunks):
        text = f"bladescanRows({number},{page.chunk(number)});\n"
        _write_file(rows / f"{number:05}.js", [text.encode()])
    # Last: a page is there only if all that it loads is.
    _write_file(output / "index.html", page.pieces())
    return _counts(page, output / "index.html")


def _write_file(path: Path, pieces: Iterator[bytes] | list[bytes]) -> None:
    output = open_output(str(path))
    try:
        for piece in pieces:
            output.write(piece)
        output.commit()
    except BaseException:
        output.discard()
        raise


def _counts(page: _Page, path: Path) -> ReviewCounts:
    deck = page.deck
    return ReviewCounts(path, len(page.stack), len(deck), deck.n_missing, deck.n_decided, deck.n_like_decided)
