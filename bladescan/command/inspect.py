"""``bladescan inspect``: all that is known of one file."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

import bladescan
from bladescan.base.errors import UsageError
from bladescan.base.text import as_text, counted, printable
from bladescan.command import options as o
from bladescan.command.guard import guarded
from bladescan.command.inputs import stability_share

if TYPE_CHECKING:
    from bladescan.base.provenance_record import Provenance
    from bladescan.base.records import FaceVerdict, ImageRecord
    from bladescan.outputs.run import RunInfo
    from bladescan.scanning.exif_process import ExifAnswer


_TOLD = {
    "score": "score",
    "threshold": "threshold",
    "p value": "p_value",
    "stability": "stability",
    "P(AI)": "p_ai_generated",
    "log-likelihood": "log_likelihood",
}
_LONGEST_NAME = 64
"""Characters: no camera or editor has a longer one."""


@guarded
def inspect(
    file: Annotated[str, typer.Argument(metavar="FILE", help="An image file on this machine.")],
    model: o.Model = None,
    image_model: o.ImageModel = None,
    head: o.Head = "auto",
    false_alarm: o.FalseAlarm = None,
    stability: o.Stability = False,
    stability_limit: o.StabilityLimit = None,
    explain: o.Explain = False,
    declared: o.Declared = "flag",
    trust_list: o.TrustList = None,
    faces: o.Faces = "auto",
    min_face: o.MinFace = 32,
    prompts: Annotated[
        bool,
        typer.Option("--prompts", help="Print the prompts that a generator left, which speak of people."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    debug: o.Debug = False,
) -> None:
    """Print all that is known of one image.

    That is what the file says of itself, its EXIF, its faces and their scores. The exit code is
    that of a scan of this file alone.

    Example: `bladescan inspect upload.jpg`
    """
    from bladescan.outputs.json_values import as_json as encoded
    from bladescan.scanning.exif_process import exif_of

    _check_file(file)
    asked = bladescan.ScanOptions(
        model=model,
        decision=bladescan.Decision(head, false_alarm, stability=stability_share(stability, stability_limit)),
        decoder=bladescan.DecoderSettings(faces=faces, min_face=min_face),
        provenance=bladescan.ProvenanceOptions(declared, trust_list, prompts),
        explain=explain,
        image_model=image_model,
    )
    tally = bladescan.Tally(asked.exit_rule)
    with bladescan.Scanner(asked) as scanner:
        run = scanner.run_info()
        (record,) = scanner.scan(file)
        tally.count(record)
    exif = exif_of(file, asked.decoder.limits, asked.decoder.timeout_s)
    if not prompts:
        exif = _without_prompts(exif, record.provenance)
    if as_json:
        print(encoded(_document(run, record, exif)).decode())
    else:
        print(as_text(_printable(_sheet(run, record, exif))))
    raise typer.Exit(tally.exit_code())


def _check_file(file: str) -> None:
    from bladescan.sources.addresses import is_url

    if is_url(file) or os.path.isdir(file):
        raise UsageError(f"{file}: inspect takes a file on this machine; scan takes folders and URLs")
    if not os.path.lexists(file):
        raise UsageError(f"{file}: no such file")


def _without_prompts(answer: ExifAnswer, said: Provenance | None) -> ExifAnswer:
    """Leave out what a generator wrote in place of a camera's name: some put their whole prompt there."""
    import msgspec

    exif = answer.exif
    marked = said is None or any(one.where.startswith("exif:") for one in said.evidence)
    if exif is None or not (marked or max(len(exif.camera), len(exif.software)) > _LONGEST_NAME):
        return answer
    return msgspec.structs.replace(answer, exif=replace(exif, camera="", software=""))


def _document(run: RunInfo, record: ImageRecord, exif: ExifAnswer) -> dict[str, Any]:
    """Collect what is known for a program, by the names of JSON Lines."""
    from bladescan.outputs.json_values import image_fields, run_fields

    return {
        "run": run_fields(run),
        "image": image_fields(record),
        "n_bytes": record.cost.n_bytes if record.cost else None,
        "exif": None if exif.exif is None else asdict(exif.exif),
        "exif_problem": exif.problem or None,
    }


def _sheet(run: RunInfo, record: ImageRecord, exif: ExifAnswer) -> dict[str, Any]:
    """Collect what is known for a person."""
    whole = [face for face in record.faces if face.subject == "image"]
    return {
        "file": record.source,
        "verdict": _verdict(record),
        "picture": _picture(record),
        **_statements(record.provenance),
        "exif": _exif(exif),
        **({} if run.subject == "image" else {"faces": _faces(record) or "none"}),
        **({"whole picture": _face(whole[0])} if whole else {}),
        "judged by": f"{run.detector}, {run.head} head, {run.backend}, "
        + ("" if run.subject == "image" else f"faces by {run.face_finder}, ")
        + f"{run.false_alarm:g} false alarms",
        **({"whole picture judged by": run.image_detector.detector} if run.image_detector else {}),
    }


def _verdict(record: ImageRecord) -> str:
    if record.reason is not None:
        return f"{record.verdict.value}: {record.reason.value} ({record.detail})"
    by = f", flagged by: {record.flagged_by.value}" if record.flagged_by else ""
    return record.verdict.value + by


def _picture(record: ImageRecord) -> str:
    size = f"{record.cost.n_bytes} bytes" if record.cost else "not read"
    if record.format is None:
        return size
    frames = f", {record.n_frames} frames" if record.n_frames != 1 else ""
    return f"{record.format}, {record.width} x {record.height} pixels{frames}, {size}"


def _statements(said: Provenance | None) -> dict[str, Any]:
    if said is None:
        return {"declared": "not read"}
    camera = said.camera
    found = [f"{camera.word}, {camera.n_tags} of 9 tags", "a maker note" if camera.has_maker_note else ""]
    by = [said.declared_by, said.declared_tool]
    signer = f", signed by {said.declared_signer}" if said.declared_signer else ""
    evidence = {
        str(index): f"{one.where} says {one.says}{_in_brackets(one.tool)}: {one.detail}"
        for index, one in enumerate(said.evidence)
    }
    prompts = {str(index): prompt for index, prompt in enumerate(said.prompts)}
    return {
        "declared": said.declared + _in_brackets(", ".join(filter(None, by))),
        "C2PA manifest": said.c2pa_status + signer,
        "evidence": evidence or "none",
        "camera": ", ".join(filter(None, [*found, *camera.contradictions])),
        **({"prompts": prompts} if prompts else {}),
    }


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


def _exif(answer: ExifAnswer) -> dict[str, Any] | str:
    if answer.exif is None:
        return f"not read ({answer.problem})"
    named = {"camera": answer.exif.camera, "software": answer.exif.software}
    found = {
        name.replace("_", " "): f"{value:g}" if isinstance(value, float) else value
        for name, value in answer.exif.tags.items()
    }
    return {**{name: text for name, text in named.items() if text}, **found} or "none"


def _faces(record: ImageRecord) -> dict[str, str]:
    from bladescan.outputs.rows import face_row

    told = {}
    for index, face in enumerate(record.faces):
        if face.subject != "face":
            continue
        told[str(index)] = _face(face)
        if face.explanation is not None:
            told[f"{index} rests on"] = _explanation(face_row(index, face)["explanation"])
    return told


def _face(face: FaceVerdict) -> str:
    from bladescan.outputs.rows import face_row

    row = face_row(0, face)
    told = [f"{title} {row[name]:g}" for title, name in _TOLD.items() if row[name] is not None]
    if face.box is not None:
        told.append(f"at ({row['x0']:g}, {row['y0']:g}) to ({row['x1']:g}, {row['y1']:g})")
        told.append(f"found with {row['detection_score']:g}")
    told += [f"turned by {row['rotation']} degrees"] if row["rotation"] else []
    if face.tiles is not None:
        told.append(f"{counted(face.tiles, 'tile')} over {row['coverage']:.0%} of it")
    told += [f"frame {face.frame}"] if face.frame else []
    return ", ".join([face.verdict.value, *told])


def _explanation(told: dict[str, Any]) -> str:
    x0, y0, x1, y1 = told["region"]
    moves = "rises" if told["fall"] < 0 else "falls"
    said = [
        f"the {told['where']}, from ({x0:g}, {y0:g}) to ({x1:g}, {y1:g}): covered, its score {moves} by "
        f"{abs(told['fall']):g}",
        f"{told['n_as_suspicious']} of {told['n_photographs']} photographs score as high",
    ]
    if told["n_as_far"] is not None:
        angle = told["nearest_degrees"][0]
        said.append(f"the nearest at {angle:g} degrees, {told['n_as_far']} are as far from theirs")
    if told["stability"] is not None:
        flips = f" (not {', '.join(told['flips'])})" if told["flips"] else ""
        said.append(f"the same verdict in {told['stability']:.0%} of changed copies{flips}")
    return ", ".join(said)


def _printable(value: Any) -> Any:
    """Make every text one line that cannot steer a terminal, nor look like another line."""
    if isinstance(value, dict):
        return {key: _printable(item) for key, item in value.items()}
    return printable(value) if isinstance(value, str) else value
