"""``bladescan info``, ``backends``, ``doctor`` and ``demo``: what there is, and whether it works."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import Annotated

import typer

from bladescan.base.errors import UsageError
from bladescan.base.exit_codes import ExitCode
from bladescan.base.text import as_text, printable, printable_lines
from bladescan.command import options as o
from bladescan.command.guard import guarded

_logger = logging.getLogger(__name__)


@guarded
def info(
    path: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="A detector that ships, a detector file or an encoder run. Default: the detector that "
            "scans, and a list of those that ship.",
        ),
    ] = None,
    detector: Annotated[
        str | None, typer.Option("--detector", "--model", metavar="NAME", help="The same as an option.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document, with the calibration.")
    ] = False,
    debug: o.Debug = False,
) -> None:
    """Describe a detector or an encoder run.

    What it is made of, from its manifest; an exported detector has the same one. Without a name it also lists
    the detectors that ship.

    Example: `bladescan info fast`
    """
    from bladescan.command.describe import cost, describe, read_manifest, shipped
    from bladescan.detectors.cascade import SUFFIX
    from bladescan.detectors.combined_file import SUFFIX as COMBINED
    from bladescan.detectors.manifest import encode_manifest
    from bladescan.runtimes.registry import find_detector

    if path is not None and detector is not None:
        raise UsageError("give the detector once: as the argument, or with --detector")
    asked = path if detector is None else detector
    file = find_detector(asked)
    manifest = read_manifest(file)
    if as_json:
        print(encode_manifest(manifest))
        return
    joined = file.suffix.lower() in (SUFFIX, COMBINED)  # of several networks
    counted = {} if joined else cost(manifest)
    shown = describe(manifest) | ({"complexity": counted} if counted else {})
    listed = {"shipped": shipped()} if asked is None else {}
    print(printable_lines(as_text(listed | shown)))


@guarded
def backends(debug: o.Debug = False) -> None:
    """List the runtimes and their devices.

    Each with its version and the kinds of file that it opens.
    """
    from bladescan.runtimes.registry import get_plugin, plugin_names

    for name in plugin_names():
        plugin = get_plugin(name)
        status = plugin.status()
        state = status.version or "not installed"
        devices = ", ".join(status.devices) or "-"
        hint = f"  {status.hint}" if status.hint else ""
        print(f"{name:10} {state:16} {devices:16} {' '.join(plugin.suffixes)}{hint}")


@guarded
def doctor(
    urls: Annotated[
        list[str] | None, typer.Argument(help="Buckets to check, for example s3://bucket/prefix.")
    ] = None,
    model: o.Model = None,
    faces: o.Faces = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    debug: o.Debug = False,
) -> None:
    """Check whether this machine can scan.

    Looks at memory, packages, backends, the face finder, the detector and buckets.

    Example: `bladescan doctor s3://bucket/uploads`
    """
    from bladescan.command.doctor import examine

    findings = examine(model, faces, urls or ())
    if as_json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    for finding in () if as_json else findings:
        mark = {True: "ok", False: "FAILED", None: "-"}[finding.ok]
        print(f"{mark:7}{finding.name:20}{printable(finding.detail)}")
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(ExitCode.FAILED)


@guarded
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder for the pictures.")] = Path("samples"),
    debug: o.Debug = False,
) -> None:
    """Make five sample pictures to scan.

    Three have a face, one has none, and one is cut off on purpose.
    """
    from bladescan.command.demo import write_samples

    for path in write_samples(folder):
        print(path)
    _logger.info("next: bladescan scan %s", folder)
