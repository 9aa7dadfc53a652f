"""Verdicts of earlier scans, used in place of reading a source again. It scans nothing itself.

They come from the unfinished run that a scan continues, or from a ledger. Sources pass
`EarlierVerdicts.look_up` on their way into the pipeline, and their records pass `EarlierVerdicts.keep` on
their way out, in the same order; there they get what reviewers decided of their faces. An entry goes into the
ledger once its row is safe: all at once when an output file is complete; one by one as rows are written to
standard output; at the end under a false-discovery rate, which holds all rows back.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from bladescan.base.closing import Closing
from bladescan.base.errors import UnknownNameError, UsageError
from bladescan.base.records import ImageRecord
from bladescan.ledger.decisions import with_decisions
from bladescan.ledger.entries import LedgerEntry, is_lasting, key_of, stamp_of
from bladescan.sources.source import Source

if TYPE_CHECKING:
    from bladescan.ledger.entries import VerdictSettings
    from bladescan.ledger.entry_file import EntryFile, EntryLookup
    from bladescan.ledger.journal import Journal
    from bladescan.ledger.ledger import Ledger

SHOW = ("all", "new")


@dataclass(frozen=True, slots=True)
class EarlierOptions:
    """What the user asked to be remembered.

    Attributes:
        output: the file that the verdicts go to; None for a stream, which has no journal.
        resume: continue a run that did not end.
        ledger: file of a ledger.
        show: ``all`` rows, or those ``new`` to the ledger.
    """

    output: str | None = None
    resume: bool = False
    ledger: str | None = None
    show: str = "all"

    def __post_init__(self) -> None:
        if self.show not in SHOW:
            raise UnknownNameError("choice of --show", self.show, SHOW)
        if self.show == "new" and self.ledger is None:
            raise UsageError("--show new needs --ledger FILE")
        if self.resume and self.output is None:
            raise UsageError("--resume needs an output file on this machine: give -o FILE")


class _Listed(NamedTuple):
    """A source on its way through the pipeline; its key, and whether the ledger knew it."""

    source: Source
    key: bytes
    from_ledger: bool = False


class EarlierVerdicts(Closing):
    """The journal and the ledger of one scan.

    Attributes:
        n_other_left_out: sources that the ledger knew to be no pictures, and that were not handed on.

    Args:
        options: what was asked.
        settings: of this scan.
        holds_back: whether all rows are held back to the end.

    Raises:
        BladescanError: the ledger cannot be used.
    """

    def __init__(self, options: EarlierOptions, settings: VerdictSettings, *, holds_back: bool) -> None:
        self._options, self._settings, self._holds_back = options, settings, holds_back
        self._ledger = _open_ledger(options.ledger, settings)
        self._journal: Journal | None = None
        self._folder: TemporaryDirectory[str] | None = None
        self._listed: deque[_Listed] = deque()
        self._n_left_out = self._n_shown = self.n_other_left_out = 0

    @property
    def n_unchanged(self) -> int:
        """Sources that the ledger knew."""
        return self._n_left_out + self._n_shown

    @property
    def n_left_out(self) -> int:
        """Sources that the ledger knew and that were not handed on."""
        return self._n_left_out + self.n_other_left_out

    @property
    def resumable(self) -> bool:
        """Whether a later run could continue this one."""
        return self._options.output is not None and self._journal is not None

    def begin(self) -> list[str]:
        """Open the journal, once the output has shown that it can be written.

        Returns:
            Lines on what was found there.

        Raises:
            OutputError: another scan writes the same output.
        """
        output = self._options.output
        if output is None:
            if self._ledger is None or not self._holds_back:
                return []
            self._folder = TemporaryDirectory(prefix="bladescan-")
            output = os.path.join(self._folder.name, "verdicts")
        from bladescan.ledger.journal import Journal

        self._journal = Journal(output, self._settings, resume=self._options.resume)
        return [self._journal.notice] if self._journal.notice else []

    def look_up(self, sources: Iterable[Source]) -> Iterator[Source]:
        """Yield the same sources with stamps and known records. For the thread that lists."""
        if self._journal is None and self._ledger is None:
            yield from sources
            return
        with ExitStack() as stack:
            found_before = self._journal is not None and self._journal.found
            journal = stack.enter_context(self._journal.lookup()) if self._journal and found_before else None
            ledger = stack.enter_context(self._ledger.lookup()) if self._ledger else None
            for source in sources:
                listed = _recognised(source, journal, ledger)
                if listed.from_ledger and self._options.show == "new":
                    self._count_left_out(listed.source)
                else:
                    self._listed.append(listed)
                    yield listed.source

    def _count_left_out(self, source: Source) -> None:
        if source.known is not None and source.is_other_file(source.known.reason):
            self.n_other_left_out += 1
        else:
            self._n_left_out += 1

    def keep(self, records: Iterable[ImageRecord]) -> Iterator[ImageRecord]:
        """Yield the same records; keep each in the journal before, or in the ledger after, its row is out."""
        if self._journal is None and self._ledger is None:
            yield from records
            return
        for record in records:
            listed = self._listed.popleft()
            self._n_shown += listed.from_ledger and not record.is_other
            if self._journal is not None:
                self._note(listed, record, self._journal)
            yield with_decisions(record, self._ledger.decided) if self._ledger is not None else record
            if self._journal is None and self._ledger is not None:
                self._note(listed, record, self._ledger)

    def commit(self) -> None:
        """Move the entries of a complete output into the ledger, and remove the journal.

        Raises:
            OutputError: the ledger cannot be written; a run with ``--resume`` tries it again.
        """
        if self._ledger is not None and self._journal is not None:
            self._ledger.absorb(self._journal)
        elif self._ledger is not None:
            self._ledger.flush()
        if self._journal is not None:
            self._journal.remove()

    def close(self) -> None:
        """Close both files; a journal that was not committed stays."""
        for file in (self._journal, self._ledger):
            if file is not None:
                file.close()
        if self._folder is not None:
            self._folder.cleanup()

    def _note(self, listed: _Listed, record: ImageRecord, file: EntryFile) -> None:
        source = listed.source
        if source.stamp is None or listed.from_ledger or not is_lasting(record):
            return
        is_known = source.known is not None
        if not is_known or self._ledger is not None:  # the ledger takes only what this run confirms
            file.put(LedgerEntry(listed.key, source.stamp, record), at_once=not is_known)


def _recognised(source: Source, journal: EntryLookup | None, ledger: EntryLookup | None) -> _Listed:
    """Give a source its stamp, and its record if one of the two has it.

    The journal is asked first: what this output's unfinished run scanned is new to the output, even if it
    got as far as the ledger.
    """
    key, stamp = key_of(source.name), stamp_of(source)
    source = replace(source, stamp=stamp)
    if stamp is None or source.problem is not None:
        return _Listed(source, key)
    for lookup in (journal, ledger):
        known = None if lookup is None else lookup.find(key, stamp, source.name)
        if known is not None:
            return _Listed(replace(source, known=known), key, from_ledger=lookup is ledger)
    return _Listed(source, key)


def _open_ledger(path: str | None, settings: VerdictSettings) -> Ledger | None:
    if path is None:
        return None
    from bladescan.ledger.ledger import Ledger

    ledger = Ledger(path)
    try:
        ledger.begin_run(settings)
    except BaseException:
        ledger.close()
        raise
    return ledger
