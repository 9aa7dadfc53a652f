"""Letters with accents, as one character or two: names, globs, lists, keys of buckets."""

from __future__ import annotations

import os
import unicodedata

import pytest

from bladescan.base.errors import UsageError
from bladescan.base.records import Reason
from bladescan.sources.listing import check_paths
from tests.sources.asking import fetch, listed
from tests.sources.s3_server import MadeUpBucket, reach

COMPOSED, APART = (unicodedata.normalize(form, "Müller é.jpg") for form in ("NFC", "NFD"))
FORMS = pytest.mark.parametrize("stored", [COMPOSED, APART], ids=["stored-composed", "stored-apart"])
ASKED = pytest.mark.parametrize("asked", [COMPOSED, APART], ids=["asked-composed", "asked-apart"])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@FORMS
@ASKED
def test_a_glob_matches_either_form(folder, stored, asked):
    (folder / stored).write_bytes(b"x")
    (folder / "other.jpg").write_bytes(b"x")
    assert [s.name for s in listed(".", include=(asked,))] == [f"./{stored}"]
    assert [s.name for s in listed(".", include=(f"**/{asked[:3]}*",))] == [f"./{stored}"]
    assert [s.name for s in listed(".", exclude=(asked.upper(),))] == ["./other.jpg"]


@FORMS
@ASKED
def test_a_folder_is_left_out_in_either_form(folder, stored, asked):
    (folder / stored).mkdir()
    (folder / stored / "a.jpg").write_bytes(b"x")
    (folder / "b.jpg").write_bytes(b"x")
    assert [s.name for s in listed(".", exclude=(asked + "/",))] == ["./b.jpg"]


@FORMS
@ASKED
def test_a_name_finds_the_file_in_either_form_and_the_row_has_the_disks(folder, stored, asked):
    (folder / stored).write_bytes(b"x")
    check_paths([asked])
    for found in (listed(asked), listed("-", stdin=asked.encode() + b"\n")):
        assert [(s.name, s.problem) for s in found] == [(stored, None)]
        assert os.path.exists(found[0].name)


def test_where_both_forms_are_there_each_is_its_own(folder):
    for name in (COMPOSED, APART):
        (folder / name).write_bytes(name.encode())
    assert [s.name for s in listed(COMPOSED, APART)] == [COMPOSED, APART]
    assert sorted(s.name for s in listed(".", include=(COMPOSED,))) == sorted(
        f"./{name}" for name in (COMPOSED, APART)
    )


def test_what_is_there_in_neither_form_is_not_found_as_it_was_written(folder):
    (missing,) = listed("-", stdin=APART.encode())
    assert (missing.name, missing.problem.reason) == (APART, Reason.NOT_FOUND)
    with pytest.raises(UsageError, match="no such file"):
        check_paths([COMPOSED])


@FORMS
@ASKED
def test_a_glob_matches_keys_in_either_form(monkeypatch, stored, asked):
    pytest.importorskip("botocore")
    with MadeUpBucket([f"p/{stored}", "p/x.jpg"]).running() as endpoint:
        reach(monkeypatch, endpoint)
        found = listed("s3://b/p/", include=(asked,))
        assert [s.name for s in found] == [f"s3://b/p/{stored}"]
        assert fetch(*found) == [f"p/{stored}".encode()]
