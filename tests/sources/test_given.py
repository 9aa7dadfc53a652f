"""Sources as a Python program gives them."""

from pathlib import Path

import pytest

from bladescan.base.errors import DataError
from bladescan.sources.given import sources_of, sources_there
from bladescan.sources.query import SourceQuery
from bladescan.sources.source import Source


@pytest.fixture
def folder(tmp_path):
    for name in ("a.jpg", "b.png", "c.jpg"):
        (tmp_path / name).touch()
    return tmp_path


def names(given) -> list[str]:
    return [Path(source.name).name for source in sources_of(given)]


def test_a_path_may_be_text_or_a_path_and_a_folder_is_searched(folder):
    assert names(str(folder)) == names(folder) == ["a.jpg", "b.png", "c.jpg"]


def test_several_keep_their_order(folder):
    assert names([folder / "c.jpg", folder]) == ["c.jpg", "a.jpg", "b.png", "c.jpg"]


def test_a_query_brings_its_rules(folder):
    assert names(SourceQuery((str(folder),), include=("*.png",))) == ["b.png"]


def test_sources_pass_as_they_are(folder):
    listed = [Source("one"), Source("two")]
    assert list(sources_of(iter(listed))) == listed


def test_names_come_from_the_stream_that_stands_for_standard_input(folder):
    (folder / "list").write_bytes(bytes(folder / "b.png") + b"\n")
    with (folder / "list").open("rb") as stream:
        assert [Path(source.name).name for source in sources_of(["-"], stream)] == ["b.png"]


def test_what_names_nothing_that_is_there_is_an_error_at_once(folder):
    with pytest.raises(DataError, match="^fakes: none of 2 can be read; the first, gone.png: not-found"):
        sources_there(["gone.png", folder / "gone.jpg"], "fakes")
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="^fakes: nothing is listed$"):
        sources_there(folder / "empty", "fakes")
    assert len(sources_there(["gone.png", folder / "a.jpg"], "fakes")) == 2  # one of them has its row
