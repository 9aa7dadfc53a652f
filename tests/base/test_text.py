"""Text that is shown."""

from __future__ import annotations

import pytest

from bladescan.base.text import as_text, counted, without_password


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


def test_numbers_for_people_have_four_digits():
    shown = {"rate": 0.005819824835509995, "parts": {"n": 7, "seconds": 1234.5678, "all": [1 / 3, "x"]}}
    assert as_text(shown).splitlines() == [
        "rate: 0.00582",
        "parts:",
        "  n: 7",
        "  seconds: 1234.6",
        '  all: [0.3333, "x"]',
    ]


def test_one_is_in_the_singular():
    assert [counted(n, "image") for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
