"""Where the tiles of a whole picture lie, and which pixels are in them."""

import numpy as np
import pytest
from PIL import Image

from bladescan.detectors.manifest import PictureRule
from bladescan.faces.tiles import GRID, cut_tiles, picture_squares
from bladescan.faces.views import VIEWS

TILES = PictureRule()


def noise(width, height, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def naive_grid(width, height, tile, most):
    """Every grid that fits, the one with the smallest gap, then with the most tiles."""
    best = None
    for across in range(1, max(1, width // tile) + 1):
        for down in range(1, max(1, height // tile) + 1):
            if across * down <= most:
                rank = (max(width / across, height / down), -across * down)
                if best is None or rank < best[0]:
                    best = rank, across, down
    return best[1:]


def naive_places(side, tile, n):
    room = max(0, side - tile)
    exact = [room / 2] if n == 1 else [room * i / (n - 1) for i in range(n)]
    return [int(place) - int(place) % 8 for place in exact]


@pytest.mark.parametrize("most", [1, 2, 5, 9, 16])
@pytest.mark.parametrize(
    "size", [(224, 224), (1024, 1024), (4000, 3000), (3000, 500), (230, 5000), (447, 449)]
)
def test_tiles_lie_where_a_naive_search_puts_them(size, most):
    width, height = size
    across, down = naive_grid(width, height, 224, most)
    wanted = [
        (x, y, x + 224, y + 224)
        for y in naive_places(height, 224, down)
        for x in naive_places(width, 224, across)
    ]
    found = picture_squares(size, TILES, most)
    assert found == wanted and len(found) <= most


@pytest.mark.parametrize("size", [(1024, 1024), (4000, 3000), (230, 5000)])
def test_tiles_keep_to_the_blocks_of_jpeg_stay_inside_and_never_overlap(size):
    squares = picture_squares(size, TILES, 9)
    for i, (x0, y0, x1, y1) in enumerate(squares):
        assert x0 % GRID == y0 % GRID == 0 and 0 <= x0 and 0 <= y0 and x1 <= size[0] and y1 <= size[1]
        for a0, b0, a1, b1 in squares[:i]:
            assert x0 >= a1 or a0 >= x1 or y0 >= b1 or b0 >= y1


def test_a_tile_holds_the_pixels_of_the_picture_as_they_are():
    picture = noise(700, 500)
    found = cut_tiles(picture, TILES, 9)
    for crop, (x0, y0, x1, y1) in zip(found.crops, picture_squares((700, 500), TILES, 9), strict=True):
        np.testing.assert_array_equal(crop, picture[int(y0) : int(y1), int(x0) : int(x1)])
    assert found.coverage == pytest.approx(6 * 224 * 224 / (700 * 500)) and found.views is None


def test_the_centre_is_one_tile_and_the_square_is_the_middle_made_small():
    picture = noise(700, 500)
    centre = cut_tiles(picture, PictureRule("centre"), 9)
    np.testing.assert_array_equal(centre.crops, picture[None, 136:360, 232:456])
    square = cut_tiles(picture, PictureRule("square"), 9)
    middle = Image.fromarray(picture[:, 100:600]).resize((224, 224), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(square.crops[0], np.asarray(middle))


@pytest.mark.parametrize("size", [(100, 90), (1, 1), (300, 50), (3, 900), (223, 224)])
def test_a_smaller_picture_is_continued_by_its_mirror_image(size):
    picture = noise(*size)
    found = cut_tiles(picture, TILES, 9, views=True)
    padding = [(0, max(0, 224 - side)) for side in (size[1], size[0])]
    whole = np.pad(picture, [*padding, (0, 0)], mode="reflect")
    for crop, (x0, y0, x1, y1) in zip(found.crops, picture_squares(size, TILES, 9), strict=True):
        np.testing.assert_array_equal(crop, whole[int(y0) : int(y1), int(x0) : int(x1)])
    assert found.coverage == pytest.approx(len(found.crops) * 224**2 / (size[0] * size[1]))
    assert found.views.shape == (len(VIEWS), len(found.crops), 224, 224, 3)


def test_a_strip_of_a_million_pixels_is_not_continued_as_a_whole():
    strip = Image.new("RGB", (1_000_000, 1), (9, 8, 7))  # 224 rows of it would be 670 MB
    assert (cut_tiles(strip, TILES, 4).crops == (9, 8, 7)).all()


def test_a_tile_of_another_size_is_resized():
    picture = noise(448, 448)
    small = cut_tiles(picture, PictureRule("tiles", 448), 9).crops
    wanted = Image.fromarray(picture).resize((224, 224), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(small[0], np.asarray(wanted))


@pytest.mark.parametrize("wrong", [{"tile": 225}, {"tile": 8}, {"most": 0}, {"most": 65}])
def test_a_rule_out_of_range_is_refused(wrong):
    with pytest.raises(ValueError, match="expected a multiple of 8"):
        PictureRule(**wrong)
