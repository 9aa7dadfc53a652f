"""What a scan judges, faces or whole pictures or both, and which detector each of them has. It loads none."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from bladescan.base.errors import UnknownNameError, UsageError
from bladescan.detectors.manifest import Manifest, Subject
from bladescan.scanning.decoder_process import Subjects

SUBJECTS = ("auto", "face", "image", "both")
"""The choices of ``--subject``; ``auto`` is what the detectors that are given were made for."""

_CALLED: dict[Subject, str] = {"face": "faces", "image": "whole pictures"}
_Model = str | Path | None


class Models(NamedTuple):
    """The detectors of a scan, by name or path.

    Attributes:
        main: the only one, or that of faces, or those that are combined; None for the default.
        image: that of whole pictures beside it, None for none.
        wanted: what the main one must have been made for; None for either.
    """

    main: tuple[_Model, ...]
    image: _Model
    wanted: Subject | None


def choose_models(subject: str, models: tuple[_Model, ...], image_model: _Model) -> Models:
    """Tell which detectors a scan needs.

    Args:
        subject: one of `SUBJECTS`.
        models: what ``--model`` says; (None,) for the default.
        image_model: what ``--image-model`` says.

    Raises:
        UnknownNameError: another subject.
        UsageError: a detector is missing, or one has nothing to judge.
    """
    if subject not in SUBJECTS:
        raise UnknownNameError("choice of --subject", subject, SUBJECTS)
    if subject == "auto":
        return Models(models, image_model, None if image_model is None else "face")
    if subject == "face":
        if image_model is not None:
            raise UsageError("--subject face judges no whole picture: leave out --image-model")
        return Models(models, None, "face")
    if subject == "both" and image_model is not None:
        return Models(models, image_model, "face")
    if subject == "image" and (models == (None,)) != (image_model is None):
        return Models(models if image_model is None else (image_model,), None, "image")
    if subject == "image" and image_model is not None:
        raise UsageError("--subject image takes one detector: leave out --model")
    raise UsageError(
        f"--subject {subject} needs a detector made for whole pictures, of which none ships: give "
        "--image-model FILE; bladescan fit --subject image makes one"
    )


def check_subject(manifest: Manifest, wanted: Subject | None, option: str) -> None:
    """Raise UsageError for a detector that was made for something else.

    Args:
        manifest: of the detector.
        wanted: what it is to judge; None for either.
        option: that named it.
    """
    if wanted is None or manifest.subject == wanted:
        return
    made = _CALLED[manifest.subject]
    hint = {
        "face": "give it as --image-model, or with --subject image",
        "image": "bladescan fit --subject image makes one for whole pictures",
    }[wanted]
    raise UsageError(
        f"{option}: the detector {manifest.name!r} was made for {made} and cannot judge {_CALLED[wanted]}: "
        f"{hint}"
    )


def judged(main: Manifest, image: Manifest | None) -> Subjects:
    """Tell what is cut out of each picture for these detectors."""
    return main.subject if image is None else "both"
