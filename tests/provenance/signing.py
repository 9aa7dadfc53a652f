"""Signing for tests, which are skipped without the extra."""

from __future__ import annotations

import pytest

from benchmarks import signatures
from benchmarks.signatures import action, signed

__all__ = ["action", "authority", "signed"]


def authority(name: str = signatures.USUAL) -> signatures.Authority:
    """Make an authority and its signer, or skip."""
    pytest.importorskip("c2pa", reason="c2pa-python is not installed (extra provenance)")
    return signatures.authority(name)
