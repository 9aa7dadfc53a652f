"""``bladescan scan``: images to verdicts."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from functools import partial

import typer

import bladescan
from bladescan.base.errors import OutputError, UnknownNameError, UsageError
from bladescan.base.exit_codes import ExitRule
from bladescan.command import options as o
from bladescan.command.guard import end_json_lines, guarded, is_closed
from bladescan.command.inputs import check_apart, image_limits, raw_stdin, source_query, stability_share
from bladescan.command.terminal import ProgressLine

_FAIL_ON = ("flagged", "reviewed", "unsure", "unreadable", "none")


@guarded
def scan(
    paths: o.Paths = None,
    files_from: o.FilesFrom = None,
    null: o.Null = False,
    include: o.Include = None,
    exclude: o.Exclude = None,
    hidden: o.Hidden = False,
    follow_links: o.FollowLinks = False,
    all_files: o.AllFiles = False,
    shard: o.Shard = None,
    model: o.Models = None,
    combine: o.Combine = None,
    subject: o.SubjectChoice = "auto",
    image_model: o.ImageModel = None,
    head: o.Head = "auto",
    false_alarm: o.FalseAlarm = None,
    fdr: o.Fdr = None,
    storey: o.Storey = False,
    stability: o.Stability = False,
    stability_limit: o.StabilityLimit = None,
    explain: o.Explain = False,
    declared: o.Declared = "flag",
    trust_list: o.TrustList = None,
    faces: o.Faces = "auto",
    min_face: o.MinFace = 32,
    output: o.Output = None,
    format: o.Format = "auto",
    report: o.Report = None,
    resume: o.Resume = False,
    ledger: o.LedgerFile = None,
    show: o.Show = "all",
    sort: o.Sort = "auto",
    top: o.Top = None,
    prompts: o.Prompts = False,
    fail_on: o.FailOn = "flagged,unsure,unreadable",
    allow_empty: o.AllowEmpty = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    backend: o.BackendName = "auto",
    device: o.Device = "auto",
    precision: o.Precision = "fp32",
    workers: o.Workers = 1,
    cluster: o.Cluster = None,
    batch_size: o.BatchSize = None,
    max_bytes: o.MaxBytes = "100M",
    max_pixels: o.MaxPixels = "100M",
    max_frames: o.MaxFrames = 8,
    timeout: o.Timeout = 30.0,
    max_errors: o.MaxErrors = None,
    log_format: o.LogFormat = None,
    log_paths: o.LogPaths = None,
    metrics: o.MetricsPath = None,
    debug: o.Debug = False,
) -> None:
    """Say which faces or images are AI-generated.

    Every picture gets a row: not-flagged, ai-generated, no-face, or unreadable with a reason; with
    --stability also unsure. Files in
    folders that are no pictures are counted.

    Example: `bladescan scan uploads/ -o verdicts.csv`
    """
    from bladescan.command.scan_listeners import command_listener
    from bladescan.command.scan_report import ScanReport
    from bladescan.sources.counting import count_sources

    if quiet and verbose:
        raise UsageError("--quiet and --verbose exclude each other")
    asked = bladescan.ScanOptions(
        model=model,
        combine=combine,
        backend=backend,
        decision=bladescan.Decision(
            head, false_alarm, fdr, storey, stability_share(stability, stability_limit)
        ),
        runtime=bladescan.BackendSettings(device, precision=precision),
        decoder=bladescan.DecoderSettings(
            faces=faces,
            min_face=min_face,
            limits=image_limits(max_bytes, max_pixels, max_frames),
            timeout_s=timeout,
        ),
        provenance=bladescan.ProvenanceOptions(declared, trust_list, prompts),
        explain=explain,
        batch_size=batch_size,
        n_workers=workers,
        cluster=cluster,
        max_errors=max_errors,
        exit_rule=_exit_rule(fail_on, allow_empty, ledger),
        subject=subject,
        image_model=image_model,
    )
    query = source_query(
        paths,
        files_from,
        null,
        include,
        exclude,
        hidden,
        follow_links,
        all_files,
        shard,
        output,
        ledger,
        metrics,
    )
    files = {"output": output, "ledger": ledger, "metrics": metrics, "report": report}
    for one in model or (None,):
        check_apart(**{"model": one, "image-model": image_model}, **files)
    line = ProgressLine("scanning", quiet=quiet, is_lined=False, count=partial(count_sources, query))
    rows_to = line.above(sys.stdout.buffer)
    where = bladescan.OutputOptions(output, format, resume, ledger, show, sort, top, stream=rows_to)
    listener = command_listener(output, metrics, line, verbose=verbose)
    if is_closed(1) and output in (None, "-"):
        raise OutputError("standard output is closed: use -o FILE")
    page = None if report is None else ScanReport(report, asked, output)
    with page or nullcontext():
        heard = listener if page is None else bladescan.Listeners(listener, page)
        summary = bladescan.run_scan(asked, query, where, heard, stdin=raw_stdin())
        if page is not None:
            page.write(asked, ledger=ledger, quiet=quiet)
    if not summary.complete:
        end_json_lines(summary.exit_code, summary.reason or "")
    raise typer.Exit(summary.exit_code)


def _exit_rule(fail_on: str, allow_empty: bool, ledger: str | None) -> ExitRule:
    words = [word.strip() for word in fail_on.split(",")]
    for word in words:
        if word not in _FAIL_ON:
            raise UnknownNameError("choice of --fail-on", word, _FAIL_ON)
    if "none" in words and len(words) > 1:
        raise UsageError(f"--fail-on {fail_on}: none excludes the others")
    reviewed = "reviewed" in words
    if reviewed and "flagged" in words:
        raise UsageError(f"--fail-on {fail_on}: reviewed takes the place of flagged; give one of them")
    if reviewed and ledger is None:
        raise UsageError("--fail-on reviewed needs --ledger FILE, which keeps what reviewers decided")
    flagged = reviewed or "flagged" in words
    return ExitRule(flagged, "unreadable" in words, allow_empty, "unsure" in words, reviewed)
