"""The table of pretext tasks: what each asks of a photograph, in prompts. It computes nothing.

A task is found by its name, never by a position; losses and weights are keyed by the same names.

To add one: a line in `TASKS`. An EXIF tag is read in `bladescan.exif.tags`; an ordinal one has its scale in
`bladescan.photographs.tag_summary`. A task that needs no EXIF stands in `WITHOUT_EXIF`; its truth comes
from `bladescan.pretext.examples`. A new kind needs a loss in `bladescan.pretext.losses`, its call in
`bladescan.pretext.model`, and an accuracy in `bladescan.training.task_accuracy`. Recipes that name no tasks
keep `PAPER_TASKS`: to learn the new one, a recipe names it.

References:
    Zou et al., arXiv:2507.22824, section 3 and the supplement (prompts and label sets).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from bladescan.base.errors import UnknownNameError


class TaskKind(str, Enum):
    """The kind of truth that a task has, which decides its loss.

    Attributes:
        COARSE: one class of two; softmax, fidelity loss (Eq. 3-4).
        FINE: any subset of the classes; independent sigmoids (Eq. 10).
        CATEGORICAL: one class; softmax, fidelity loss with a focal factor (Eq. 5).
        ORDINAL: a number that ranks photographs; the classes are only its level prompts (Eq. 6-9).
    """

    COARSE = "coarse"
    FINE = "fine"
    CATEGORICAL = "categorical"
    ORDINAL = "ordinal"


@dataclass(frozen=True, slots=True)
class PretextTask:
    """One pretext task.

    Attributes:
        name: its key everywhere.
        kind: of its truth.
        classes: in the order of labels and prompts.
        template: the prompt, with ``{}`` for the class.
    """

    name: str
    kind: TaskKind
    classes: tuple[str, ...]
    template: str

    @property
    def prompts(self) -> tuple[str, ...]:
        """One text per class, in the order of ``classes``."""
        return tuple(self.template.format(name) for name in self.classes)


LEVELS = ("low", "medium", "high")
COARSE = "coarse_manipulation"
FINE = "fine_manipulation"
ORIGIN = "origin"
GENERATED = "AI-generated"
"""The second class of `ORIGIN`; the first is a photograph."""

MAKES = ("Nikon", "Apple", "FUJIFILM", "Canon", "Samsung", "Sony", "Panasonic", "Nokia", "Pentax", "others")
METERING_MODES = (
    "average",
    "centre-weighted",
    "others",
    "partial",
    "spot",
    "multi-spot",
    "multi-segment",
    "evaluative",
)
EXPOSURE_MODES = (
    "auto",
    "auto-bracketing",
    "program",
    "manual",
    "aperture-priority",
    "easy-shooting",
    "shutter-priority",
)
WHITE_BALANCE_MODES = ("auto", "manual")
EXPOSURE_PROGRAMS = (
    "landscape mode",
    "manual control",
    "normal program",
    "portrait mode",
    "shutter priority",
    "aperture priority",
)


def _captured(tag: str) -> str:
    return f"A photo of a face captured using the {{}} {tag}"


def _ordinal(name: str, tag: str) -> PretextTask:
    return PretextTask(name, TaskKind.ORDINAL, LEVELS, _captured(tag))


def _categorical(name: str, tag: str, classes: tuple[str, ...]) -> PretextTask:
    return PretextTask(name, TaskKind.CATEGORICAL, classes, _captured(tag))


TASKS: dict[str, PretextTask] = {
    task.name: task
    for task in (
        PretextTask(COARSE, TaskKind.COARSE, ("photographic", "manipulated"), "A photo of a {} face"),
        PretextTask(
            FINE,
            TaskKind.FINE,
            ("mouth", "eye", "nose"),
            "A photo of a face with a manipulated {} region",
        ),
        _ordinal("iso_speed", "ISO speed"),
        _ordinal("aperture", "aperture"),
        _ordinal("exposure_time", "exposure time"),
        _ordinal("focal_length", "focal length"),
        _categorical("make", "make", MAKES),
        _categorical("metering_mode", "metering mode", METERING_MODES),
        _categorical("exposure_mode", "exposure mode", EXPOSURE_MODES),
        _categorical("white_balance_mode", "white balance mode", WHITE_BALANCE_MODES),
        _categorical("exposure_program", "exposure program", EXPOSURE_PROGRAMS),
        PretextTask(ORIGIN, TaskKind.CATEGORICAL, ("photographic", GENERATED), "Face: {}"),
    )
}
"""All tasks by name: the paper's, in its order, then others."""

MANIPULATION_TASKS = (COARSE, FINE)
"""The tasks whose truth is made: a manipulation."""

WITHOUT_EXIF = (*MANIPULATION_TASKS, ORIGIN)
"""The tasks that need no EXIF. The truth of `ORIGIN` is what the user says of the pictures."""

PAPER_TAGS = (
    "iso_speed",
    "aperture",
    "exposure_time",
    "focal_length",
    "make",
    "metering_mode",
    "exposure_mode",
    "white_balance_mode",
    "exposure_program",
)
"""The paper's nine tasks whose truth is an EXIF tag."""

PAPER_TASKS = (COARSE, FINE, *PAPER_TAGS)
"""The paper's eleven tasks, in its order: what a recipe learns unless it says otherwise."""


def find_task(name: str) -> PretextTask:
    """Look up a task.

    Raises:
        UnknownNameError: there is no such task.
    """
    if name not in TASKS:
        raise UnknownNameError("task", name, TASKS)
    return TASKS[name]


def prompts(names: Iterable[str]) -> tuple[str, ...]:
    """Collect the prompts of the named tasks, task by task.

    Raises:
        UnknownNameError: there is no such task.
    """
    return tuple(prompt for name in names for prompt in find_task(name).prompts)


def prompt_columns(names: Iterable[str]) -> dict[str, slice]:
    """Find each task's prompts in ``prompts(names)``.

    Raises:
        UnknownNameError: there is no such task.
    """
    found: dict[str, slice] = {}
    start = 0
    for name in names:
        stop = start + len(find_task(name).classes)
        found[name] = slice(start, stop)
        start = stop
    return found


def task_title(name: str) -> str:
    """Write a task's name as words, for people."""
    return name.replace("_", " ").replace("iso ", "ISO ")
