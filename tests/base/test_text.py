"""Text that is shown."""

from __future__ import annotations

import pytest

from bladescan.base.text import without_password


@pytest.mark.parametrize(
    "url,shown",
    [
        ("http://u:w@rd@h/x", "http://***@h/x"),
        ("https://u:word@h/x?y", "https://***@h/x?y"),
        ("http://h:80/x?mail=a@b", "http://h:80/x?mail=a@b"),
        ("http://h:80?mail=a@b", "http://h:80?mail=a@b"),
    ],
)
def test_a_password_is_covered_as_a_whole(url, shown):
    assert without_password(url) == shown
