"""A t-SNE that is quick."""

import pytest

from bladescan.base import figures


@pytest.fixture
def coarse(monkeypatch):
    """Small pictures, for tests that write many and count no pixels."""
    monkeypatch.setattr(figures, "DPI", 50)
