"""The byte-pair vocabularies that ship with the package; NOTICE.md names their origin and licence."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
