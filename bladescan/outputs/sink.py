"""An open output: records in, bytes out, in one format to one place. Nothing here decides a verdict.

The two halves know nothing of each other: a format turns records into bytes (`formats`), an output takes
bytes and makes them visible (`bladescan.base.output_files`). A file appears under its name only when it is
complete; until then the old one stays.
"""

from __future__ import annotations

from types import TracebackType
from typing import BinaryIO, Self

from bladescan.base.output_files import Output, OutputStream, open_output
from bladescan.base.records import ImageRecord
from bladescan.outputs.bucket_object import BucketObject
from bladescan.outputs.formats import OUTPUT_FORMATS, OutputFormat, choose_format
from bladescan.outputs.run import RunInfo, RunSummary
from bladescan.sources.addresses import is_url

STDOUT_NAMES = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


class Sink:
    """An open output. Leaving its context without `finish` or `keep_partial` aborts it."""

    def __init__(self, format: OutputFormat, output: Output) -> None:
        self._format, self._output = format, output
        self._open = True

    def write(self, record: ImageRecord) -> None:
        """Write one record.

        Raises:
            OutputError: it could not be written.
            BrokenPipeError: the reader has gone, which is the caller's to judge.
        """
        self._output.write(self._format.record(record))

    def finish(self, summary: RunSummary) -> None:
        """Write the summary and make the output durable and visible. Raises as `write` does."""
        self._output.write(self._format.end(summary.as_written()))
        self._output.commit()
        self._open = False

    def keep_partial(self, summary: RunSummary) -> str | None:
        """Close an interrupted output; a file ``v.csv`` stays as it was and ``v.partial.csv`` is made.

        Returns:
            The name of the partial file, None where the rows had gone straight to their reader.
        """
        self._output.write(self._format.end(summary.as_written()))
        kept = self._output.keep_partial()
        self._open = False
        return kept

    def abort(self) -> None:
        """Throw away what was written; an old file stays as it was. Aborting twice is fine."""
        if self._open:
            self._open = False
            self._output.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()


def open_sink(path: str | None, format: str, run: RunInfo, *, stream: BinaryIO) -> Sink:
    """Open the output and write its head, so that what cannot work fails before the scan.

    Args:
        path: the file to write, or the URL of an object in a bucket; None or ``-`` for ``stream``.
        format: a key of `OUTPUT_FORMATS`, or ``auto``: by the suffix, else a table on a terminal, else CSV.
        run: what will make the verdicts.
        stream: standard output.

    Raises:
        UsageError: unknown format or suffix, or Parquet on a terminal.
        MissingDependencyError: Parquet without pyarrow.
        OutputError: the output cannot be written.
        BrokenPipeError: its reader has gone.
    """
    to_stream = path is None or path in STDOUT_NAMES
    terminal = to_stream and stream.isatty()
    known = OUTPUT_FORMATS[choose_format(None if to_stream else path, format, terminal)]
    verdicts = known.make(run, terminal)
    output: Output
    if path is None or to_stream:
        output = OutputStream(stream, "standard output")
    else:
        output = BucketObject(path) if is_url(path) else open_output(path)
    try:
        output.write(verdicts.begin())
    except BaseException:
        output.discard()
        raise
    return Sink(verdicts, output)
