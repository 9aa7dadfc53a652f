r"""A cascade file: two detectors that score as one, the second only what the first does not clear.

The first scores every face. A face whose P(AI-generated) is below ``clear_below`` is cleared. The others go
to the second, and their score joins both: with the log-odds :math:`l_i` of part i,

.. math:: z_i = (l_i - \text{shift}_i) / \text{scale}_i, \qquad P = \sigma(w_1 z_1 + w_2 z_2),

and a cleared face has :math:`P = \sigma(z_1 - \text{offset})`, which ranks it below. No such P is a
probability; the calibration of the manifest, set on photographs that went the same way, gives it its meaning.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import DetectorError
from bladescan.detectors.calibration import check_calibration
from bladescan.detectors.combined_file import SUFFIX as COMBINED
from bladescan.detectors.manifest import Manifest
from bladescan.detectors.parts import DetectorPart, check_part, encode_joining, find_part, read_joining

SUFFIX = ".cascade"
_LEAST, _MOST = np.finfo(np.float64).tiny, 1.0 - np.finfo(np.float64).epsneg
_LOWEST, _HIGHEST = -700.0, 36.0
"""Log-odds beyond these would be a P of 0 or 1."""


class PartScale(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much the log-odds of a part say: z = (log-odds - shift) / scale, times ``weight``."""

    shift: float
    scale: float
    weight: float

    def standardised(self, p: float) -> float:
        """Compute z of a P(AI-generated)."""
        p = min(max(p, _LEAST), _MOST)
        return (math.log(p) - math.log1p(-p) - self.shift) / self.scale


class CascadeRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How two scores become one.

    Attributes:
        first, second: scales of the parts.
        clear_below: P(AI-generated) of the first, below which the second does not look.
        offset: how far, in z of the first, the cleared are moved down.
    """

    first: PartScale
    second: PartScale
    clear_below: float
    offset: float

    def goes_on(self, first: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell which faces the second part sees, by the first's P(AI-generated) ``[n]``."""
        return first >= self.clear_below

    def joined(self, first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
        """Join the parts' scores.

        Args:
            first: P(AI-generated) of the first part, ``[n]``.
            second: of the second, of those that go on only, in their order.

        Returns:
            float64 ``[n]``, in (0, 1).
        """
        # Number by number: NumPy computes the logarithm and the power of whole arrays in packets, whose
        # remainder may end in another last bit, so that a row would depend on its batch.
        rest = iter(second.tolist())
        found = [self._one(p, next(rest) if p >= self.clear_below else None) for p in first.tolist()]
        return np.asarray(found, np.float64)

    def _one(self, first: float, second: float | None) -> float:
        z = self.first.standardised(first)
        if second is None:
            return _sigmoid(z - self.offset)
        return _sigmoid(self.first.weight * z + self.second.weight * self.second.standardised(second))


class Cascade(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a cascade file holds.

    Attributes:
        manifest: of the two as one detector, which has one head, the binary one.
        first, second: the detectors.
        rule: how their scores become one.
    """

    manifest: Manifest
    first: DetectorPart
    second: DetectorPart
    rule: CascadeRule


class _Written(msgspec.Struct, forbid_unknown_fields=True):
    """A cascade file whose manifest is not read yet: a newer one is then told from a broken one."""

    manifest: msgspec.Raw
    first: DetectorPart
    second: DetectorPart
    rule: CascadeRule


def encode_cascade(cascade: Cascade) -> bytes:
    """Encode a cascade as its file."""
    fields: dict[str, Any] = {
        name: getattr(cascade, name) for name in cascade.__struct_fields__ if name != "manifest"
    }
    return encode_joining(cascade.manifest, **fields)


def read_cascade(path: Path) -> Cascade:
    """Read a cascade file; its parts are not looked at.

    Raises:
        DetectorError: it is none, or what it says makes no sense.
    """
    written, manifest = read_joining(path, _Written, "cascade")
    cascade = Cascade(manifest, written.first, written.second, written.rule)
    _check(cascade, path.name)
    return cascade


def part_files(path: Path, cascade: Cascade) -> tuple[Path, Path]:
    """Find the parts of a cascade beside its file, and see that they are the ones that it was made of.

    Raises:
        DetectorError: one is not there, or has another content.
    """
    return find_part(path, cascade.first), find_part(path, cascade.second)


def check_alike(first: Manifest, second: Manifest, *, where: str) -> None:
    """Check that two detectors can look at the same crops, and that each has the head that a cascade joins.

    Raises:
        DetectorError: they cannot.
    """
    for manifest in (first, second):
        if "binary" not in manifest.heads:
            raise DetectorError(f"{where}: the detector {manifest.name!r} has no binary head to join")
    told = [(m.preprocessing.size, m.face_rule.scale, m.face_rule.resize) for m in (first, second)]
    if told[0] != told[1]:
        raise DetectorError(
            f"{where}: {first.name!r} and {second.name!r} look at different crops (side, scale and resize "
            f"{told[0]} and {told[1]})"
        )


def _check(cascade: Cascade, where: str) -> None:
    rule, parts = cascade.rule, (cascade.first, cascade.second)
    for part in parts:
        check_part(part, SUFFIX, COMBINED, where=where)
    scales = (rule.first, rule.second)
    numbers = [rule.clear_below, rule.offset, *(x for s in scales for x in (s.shift, s.scale, s.weight))]
    if not np.isfinite(numbers).all() or min(s.scale for s in scales) <= 0:
        raise DetectorError(f"{where}: its numbers must be finite, and its scales above 0")
    if min(s.weight for s in scales) < 0 or not sum(s.weight for s in scales):
        raise DetectorError(f"{where}: its weights must be 0 or more, and not both 0")
    if set(cascade.manifest.heads) != {"binary"}:
        raise DetectorError(f"{where}: a cascade has one head, the binary one")
    check_calibration(cascade.manifest.heads["binary"], where=where)


def _sigmoid(z: float) -> float:
    return 1.0 / (1.0 + math.exp(-min(max(z, _LOWEST), _HIGHEST)))
