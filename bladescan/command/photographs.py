"""``bladescan index`` and ``contact-sheet``: the photographs to learn from, looked at."""

from __future__ import annotations

import logging
from pathlib import Path

import bladescan
from bladescan.base.extras import need_learning_side
from bladescan.base.output_files import check_output
from bladescan.base.text import printable_lines
from bladescan.command import learning_options as lo
from bladescan.command import options as o
from bladescan.command.guard import guarded
from bladescan.command.inputs import counter, listed, raw_stdin
from bladescan.command.terminal import ProgressLine

_logger = logging.getLogger(__name__)


@guarded
def index(
    photos: lo.PhotoPaths,
    output: lo.IndexOutput = Path("photographs.sqlite"),
    plot: lo.Plot = None,
    faces: o.Faces = "auto",
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Index the faces and EXIF tags of photographs.

    They are found once, for all later trainings. Prints a summary by tag. Needs the extra `train`.

    Example: `bladescan index photographs/ -o photographs.sqlite --plot tags.png`
    """
    need_learning_side("index")
    from bladescan.photographs.tag_plot import plot_tags
    from bladescan.photographs.tag_summary import format_summary, format_totals, summarise
    from bladescan.training.job import fill_index

    if plot is not None:
        check_output(plot, ".png")
    with ProgressLine("indexing", quiet=quiet, count=counter(photos)) as line:
        opened, _ = fill_index(listed(photos, raw_stdin()), output, faces, line.advance)
    entries = opened.entries()
    rows = summarise(entries)
    print(printable_lines(f"{format_totals(entries)}\n\n{format_summary(rows)}"))
    if plot is not None:
        plot_tags(rows, plot)


@guarded
def contact_sheet(
    photos: lo.Photos,
    output: lo.ContactSheetOutput,
    recipe: lo.Recipe = "small",
    changes: lo.SetOption = None,
    n: lo.N = 48,
    index: lo.IndexFile = None,
    faces: o.Faces = "auto",
    seed: lo.ContactSheetSeed = 0,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Draw what the encoder sees in a training.

    The picture has manipulated and augmented faces with labels and tags. Needs the extra `train`.

    Example: `bladescan contact-sheet --recipe blades --photos photographs/ -o sheet.png`
    """
    need_learning_side("contact-sheet")
    from bladescan.pretext.contact_sheet import recipe_sheet
    from bladescan.training.job import INDEX_FILE, fill_index, finder_for

    check_output(output, ".png")
    chosen = bladescan.load_recipe(recipe, changes or [])
    with ProgressLine("indexing", quiet=quiet, count=counter(photos)) as line:
        path = index or output.parent / INDEX_FILE
        finder = finder_for(chosen, faces)
        opened, indexed = fill_index(listed(photos, raw_stdin()), path, finder, line.advance)
    drawn = recipe_sheet(chosen, opened, indexed, output, n=n, seed=seed)
    _logger.info("%d examples: %s", drawn, output)
