"""One training from sources to an encoder run: index of photographs, then the loop."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bladescan import runs
from bladescan.faces import open_face_detector
from bladescan.photographs import PhotographIndex, index_photographs
from bladescan.recipe import Recipe
from bladescan.sources import Source
from bladescan.terminal import ProgressLine
from bladescan.training import Progress, train


def run_train(
    recipe: Recipe,
    sources: Iterable[Source],
    out_dir: Path,
    *,
    resume: bool,
    faces: str,
    line: ProgressLine,
) -> None:
    """Index the photographs and train on them.

    The index stands in the run's folder and is used again by ``--resume``.

    Args:
        recipe: what to do.
        sources: the photographs.
        out_dir: the run's folder.
        resume: go on in a folder that holds the same recipe's run.
        faces: name of the face finder.
        line: where progress is shown.

    Raises:
        BladescanError: the photographs, the recipe or the folder are of no use.
    """
    runs.prepare(out_dir, recipe, resume=resume)
    finder = open_face_detector(faces)
    index = PhotographIndex(out_dir / runs.INDEX_FILE, finder.name)
    names = (source.name for source in sources if source.problem is None)
    indexed = index_photographs(names, index, finder, progress=line.advance)
    skipped = ", ".join(f"{n} {reason}" for reason, n in indexed.skipped.items()) or "none"
    line.say(f"{len(indexed.digests)} photographs with a face; skipped: {skipped}")

    def show(progress: Progress) -> None:
        losses = "  ".join(f"{name} {loss:.4f}" for name, loss in progress.losses.items())
        line.set(progress.step, progress.n_steps, f"{progress.images_per_s:.0f} images/s  {losses}")

    train(recipe, index, indexed.digests, out_dir, resume=True, progress=show)
