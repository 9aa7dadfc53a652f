"""The wall clock, which ``SOURCE_DATE_EPOCH`` stops so that equal runs write equal bytes."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from bladescan.base.errors import UsageError

VARIABLE = "SOURCE_DATE_EPOCH"


def now() -> datetime:
    """Return the time, UTC, to the second.

    Raises:
        UsageError: ``SOURCE_DATE_EPOCH`` is set to something that is no time.
    """
    stopped = os.environ.get(VARIABLE)
    if not stopped:
        return datetime.now(UTC).replace(microsecond=0)
    try:
        return datetime.fromtimestamp(int(stopped), UTC)
    except (ValueError, OverflowError, OSError) as exc:
        raise UsageError(f"{VARIABLE}={stopped!r}: expected whole seconds since 1970") from exc


def is_stopped() -> bool:
    """Tell whether ``SOURCE_DATE_EPOCH`` is set, so that output must not depend on the time."""
    return bool(os.environ.get(VARIABLE))
