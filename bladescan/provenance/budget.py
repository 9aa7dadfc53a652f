"""What reading one file's metadata may cost, and the count of what it has cost. It reads nothing."""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass


class BrokenMetadata(Exception):
    """A structure does not hold together, or costs more than the budget; the message says which."""


@dataclass(frozen=True, slots=True)
class MetadataLimits:
    """What may be spent on the metadata of one file.

    Attributes:
        max_blocks: segments, chunks, boxes and directory entries, together.
        max_block_bytes: largest text, packet or profile, decompressed.
        max_total_bytes: all of those together.
        max_depth: of nested XML and JSON.
        max_s: seconds of one core, so that a busy machine changes no answer; looked at between steps. The
            library that checks signatures comes last and is not interrupted.
    """

    max_blocks: int = 100_000
    max_block_bytes: int = 4 << 20
    max_total_bytes: int = 16 << 20
    max_depth: int = 64
    max_s: float = 2.0


class Budget:
    """Counts what is spent; raises `BrokenMetadata` when it is more than the limits allow."""

    def __init__(self, limits: MetadataLimits) -> None:
        self.limits = limits
        self._n_blocks = self._n_bytes = 0
        self._end = time.thread_time() + limits.max_s

    def count_block(self) -> None:
        """Count one more block."""
        self._n_blocks += 1
        if self._n_blocks > self.limits.max_blocks:
            raise BrokenMetadata(f"more than {self.limits.max_blocks} blocks")
        if not self._n_blocks % 256:
            self.check_time()

    def check_time(self) -> None:
        """Raise if the time is up."""
        if time.thread_time() >= self._end:
            raise BrokenMetadata(f"not read within {self.limits.max_s:g} s")

    def kept(self, block: bytes) -> bytes:
        """Count the bytes of a block that is kept, and return it."""
        self._n_bytes += len(block)
        if len(block) > self.limits.max_block_bytes or self._n_bytes > self.limits.max_total_bytes:
            raise BrokenMetadata(
                f"more than {self.limits.max_block_bytes} bytes in a block, or too many in all"
            )
        return block

    def inflated(self, block: bytes) -> bytes:
        """Decompress a zlib stream, no further than the limit."""
        most = self.limits.max_block_bytes
        try:
            return self.kept(zlib.decompressobj().decompress(block, most + 1))
        except zlib.error as exc:
            raise BrokenMetadata("compressed text is broken") from exc
