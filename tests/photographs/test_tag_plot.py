"""The picture of the tags: its bars are the counts."""

import io

import matplotlib
from PIL import Image

from bladescan.base.figures import as_png
from bladescan.photographs.tag_plot import plot_tags, tags_figure
from bladescan.photographs.tag_summary import TagSummary


def texts(figure):
    figure.draw_without_rendering()
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text)]


def size(path):
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        return image.size


SUMMARY = [
    TagSummary("iso_speed", "ordinal", 60, 40, {"up to 100": 20, "100-400": 25, "400-": 15}),
    TagSummary("make", "categorical", 90, 10, {"Nikon": 70, "Apple": 20, "FUJIFILM": 0}),
]


def test_the_bars_of_a_tag_are_its_counts_and_what_is_missing():
    figure = tags_figure(SUMMARY)
    for axes, row in zip(figure.axes, SUMMARY, strict=True):
        assert [bar.get_width() for bar in axes.patches] == [*row.counts.values(), row.n_missing]
        assert [label.get_text() for label in axes.get_yticklabels()] == [*row.counts, "missing"]
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "ISO speed: 60 of 100 (60%)",
        "make: 90 of 100 (90%)",
    ]


def test_a_tag_of_many_values_sums_up_those_that_do_not_fit():
    row = TagSummary("focal_length", "ordinal", 40, 0, {str(i): 2 for i in range(20)})
    (axes,) = tags_figure([row]).axes
    counts = [bar.get_width() for bar in axes.patches]
    assert sum(counts) == row.n_present
    assert axes.get_yticklabels()[-2].get_text() == "7 more"


def test_the_picture_of_the_tags_is_of_a_size_to_read(tmp_path):
    plot_tags(SUMMARY, tmp_path / "tags.png")
    width, height = size(tmp_path / "tags.png")
    assert 900 <= width <= 2400
    assert 250 <= height <= 2400


def test_without_tags_the_picture_says_so():
    assert "no tags" in texts(tags_figure([]))


def test_tags_of_no_photograph_give_a_picture():
    figure = tags_figure([TagSummary("make", "categorical", 0, 0, {})])
    assert figure.axes[0].get_title(loc="left") == "make: 0 of 0 (none)"
    assert Image.open(io.BytesIO(as_png(figure))).size[0] > 100
