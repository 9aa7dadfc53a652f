"""One JPEG for training, fitting and evaluation."""

import io

import numpy as np
import pytest
from PIL import Image

from bladescan.images.jpeg import encode_jpeg, recompress, recompress_pixels

cv2 = pytest.importorskip("cv2")


@pytest.fixture(scope="module", params=[(224, 224), (137, 151)], ids=str)
def pixels(request):
    noise = np.random.default_rng(0).integers(0, 256, (*request.param, 3), np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 2.0), np.uint8)


@pytest.mark.parametrize("quality", [30, 55, 80, 95])
def test_opencv_would_give_the_same_pixels(pixels, quality):
    bgr = np.ascontiguousarray(pixels[..., ::-1])
    jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    np.testing.assert_array_equal(
        recompress_pixels(pixels, quality), cv2.imdecode(jpeg, cv2.IMREAD_COLOR)[..., ::-1]
    )


def test_pictures_and_pixels_come_out_alike_and_the_colours_lose_half_their_detail(pixels):
    image = Image.fromarray(pixels)
    np.testing.assert_array_equal(np.asarray(recompress(image, 80)), recompress_pixels(pixels, 80))
    layers = Image.open(io.BytesIO(encode_jpeg(image, 80))).layer
    assert [(across, down) for _, across, down, _ in layers] == [(2, 2), (1, 1), (1, 1)]


def test_a_lower_quality_takes_fewer_bytes(pixels):
    sizes = [len(encode_jpeg(Image.fromarray(pixels), quality)) for quality in (30, 60, 90)]
    assert sizes == sorted(sizes) and len(set(sizes)) == 3
