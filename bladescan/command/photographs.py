"""``bladescan index`` and ``contact-sheet``: the photographs to learn from, looked at."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

import bladescan
from bladescan.base.extras import need_learning_side
from bladescan.base.output_files import check_output
from bladescan.base.text import printable_lines
from bladescan.command import options as o
from bladescan.command.guard import guarded
from bladescan.command.inputs import listed, raw_stdin
from bladescan.command.terminal import ProgressLine

_logger = logging.getLogger(__name__)


@guarded
def index(
    photos: o.PhotoPaths,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Index to create or add to.")
    ] = Path("photographs.sqlite"),
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw the summary, as a PNG.")
    ] = None,
    faces: o.Faces = "auto",
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Find the faces and EXIF tags of photographs once, for all later trainings. Needs the extra `train`.

    Prints a summary by tag.

    Example: `bladescan index photographs/ -o photographs.sqlite --plot tags.png`
    """
    need_learning_side("index")
    from bladescan.photographs.tag_plot import plot_tags
    from bladescan.photographs.tag_summary import format_summary, format_totals, summarise
    from bladescan.training.job import fill_index

    if plot is not None:
        check_output(plot, ".png")
    with ProgressLine("indexing", quiet=quiet) as line:
        opened, _ = fill_index(listed(photos, raw_stdin()), output, faces, line.advance)
    entries = opened.entries()
    rows = summarise(entries)
    print(printable_lines(f"{format_totals(entries)}\n\n{format_summary(rows)}"))
    if plot is not None:
        plot_tags(rows, plot)


@guarded
def contact_sheet(
    photos: o.Photos,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="PNG to write.")],
    recipe: Annotated[
        str, typer.Option(metavar="NAME", help="Name or file of a recipe; see `bladescan recipes`.")
    ] = "small",
    changes: o.SetOption = None,
    n: Annotated[int, typer.Option("--n", metavar="N", min=1, help="Most examples on the sheet.")] = 48,
    index: o.IndexFile = None,
    faces: o.Faces = "auto",
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="Random seed; it chooses the photographs.")
    ] = 0,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Draw what the encoder sees in a training: manipulated, augmented faces with labels and tags.

    Needs the extra `train`.

    Example: `bladescan contact-sheet --recipe blades --photos photographs/ -o sheet.png`
    """
    need_learning_side("contact-sheet")
    from bladescan.pretext.contact_sheet import recipe_sheet
    from bladescan.training.job import INDEX_FILE, fill_index

    check_output(output, ".png")
    chosen = bladescan.load_recipe(recipe, changes or [])
    with ProgressLine("indexing", quiet=quiet) as line:
        path = index or output.parent / INDEX_FILE
        opened, indexed = fill_index(listed(photos, raw_stdin()), path, faces, line.advance)
    drawn = recipe_sheet(chosen, opened, indexed, output, n=n, seed=seed)
    _logger.info("%d examples: %s", drawn, output)
