import numpy as np
import pytest
from PIL import Image

from bladescan.foreign.pixels import centre_matrix, line_matrix, resize_matrix


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
@pytest.mark.parametrize("side", [64, 112, 224, 336])
def test_two_matrices_resize_a_picture_as_pillow_does(method, side):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (28, 28, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    picture[::3] //= 2
    theirs = Image.fromarray(picture).resize((side, side), Image.Resampling[method.upper()])
    matrix = resize_matrix(224, side, method)
    wide = np.einsum("bcx,dc->bdx", picture.astype(float), matrix)
    wide = np.floor(wide + 0.5).clip(0, 255)
    ours = np.floor(np.einsum("ab,bdx->adx", matrix, wide) + 0.5).clip(0, 255)
    # Its coefficients are whole numbers, so a grey level may fall on the other side.
    assert np.abs(ours - np.asarray(theirs, float)).max() <= 2
    assert (ours == np.asarray(theirs)).mean() > 0.9


def test_rows_of_weights_sum_to_one_and_the_same_size_changes_nothing():
    for method in ("bilinear", "bicubic"):
        np.testing.assert_allclose(resize_matrix(224, 100, method).sum(1), 1)
        np.testing.assert_allclose(resize_matrix(50, 50, method), np.eye(50), atol=1e-12)


def test_the_middle_is_taken_after_resizing():
    line = np.arange(10.0)
    assert (centre_matrix(10, 4) @ line).tolist() == [3, 4, 5, 6]
    np.testing.assert_allclose(
        line_matrix(10, 20, 4, "bilinear") @ line, (resize_matrix(10, 20) @ line)[8:12]
    )
    with pytest.raises(ValueError, match="the middle 5 of 4"):
        centre_matrix(4, 5)
