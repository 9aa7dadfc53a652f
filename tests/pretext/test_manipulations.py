import numpy as np
import pytest

from bladescan.base.errors import DataError, UnknownNameError
from bladescan.pretext import face_regions as r
from bladescan.pretext import manipulations as m
from tests.pretext.landmarks import LANDMARKS, dense


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (220, 200, 3)).astype(np.uint8)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", m.MANIPULATIONS)
def test_the_same_seed_makes_the_same_face(image, name):
    first, second = (m.apply(name, image, LANDMARKS, rng(5)) for _ in range(2))
    assert np.array_equal(first.pixels, second.pixels)
    assert first.labels == second.labels


@pytest.mark.parametrize("name", m.MANIPULATIONS)
def test_every_manipulation_changes_the_face_and_not_its_input(image, name):
    before = image.copy()
    example = m.apply(name, image, LANDMARKS, rng())
    assert np.array_equal(image, before)
    assert (example.pixels != image).any()
    assert example.pixels.shape == image.shape and example.pixels.dtype == np.uint8


@pytest.mark.parametrize(
    ("name", "region"),
    [
        ("mouth-flip-vertical", r.mouth_region),
        ("mouth-flip-horizontal", r.mouth_region),
        ("nose-flip", r.nose_region),
        ("face-warp", r.face_region),
    ],
)
def test_pixels_outside_the_region_keep_their_value(image, name, region):
    outside = m.soft_mask(region(LANDMARKS), image.shape) == 0
    for seed in range(4):
        example = m.apply(name, image, LANDMARKS, rng(seed))
        assert np.array_equal(example.pixels[outside], image[outside])
    assert 0.1 < outside.mean() < 1


def test_in_a_profile_only_the_eye_on_this_side_is_flipped(image):
    """The nose tip at, or beyond, the far eye."""
    for far, towards in ((1, 1.0), (0, -1.0)):
        profile = LANDMARKS.copy()
        profile[2, 0] = LANDMARKS[far, 0] + 3 * towards
        assert r.visible_eyes(profile) == (1 - far,)
        near = r.bounding_box(r.eye_region(profile, 1 - far), image.shape)
        for seed in range(8):
            changed = (m.apply("eye-flip", image, profile, rng(seed)).pixels != image).any(2)
            assert changed[near].any()
    assert r.visible_eyes(LANDMARKS) == (0, 1)


def test_an_eye_flip_touches_one_eye_and_leaves_the_other(image):
    seen = set()
    for seed in range(8):
        changed = (m.apply("eye-flip", image, LANDMARKS, rng(seed)).pixels != image).any(2)
        eyes = [
            bool(changed[r.bounding_box(r.eye_region(LANDMARKS, which), image.shape)].any())
            for which in (0, 1)
        ]
        assert sum(eyes) == 1
        seen.add(eyes.index(True))
    assert seen == {0, 1}


@pytest.mark.parametrize("vertical", [True, False])
def test_the_middle_of_a_full_blend_is_the_mirrored_region(image, vertical):
    region = r.mouth_region(LANDMARKS)
    box = r.bounding_box(region, image.shape)
    edit = m.Edit(image.copy(), region)
    edit.pixels[box] = image[box][::-1] if vertical else image[box][:, ::-1]
    solid = m.soft_mask(region, image.shape) > 0.9999
    assert solid.any()
    assert np.array_equal(m.paste(image, edit, 1.0)[solid], edit.pixels[solid])


def test_a_blend_ratio_mixes_edit_and_image():
    image, edited = np.full((220, 200, 3), 100, np.uint8), np.full((220, 200, 3), 200, np.uint8)
    region = r.face_region(LANDMARKS)
    solid = m.soft_mask(region, image.shape) > 0.9999
    assert (m.paste(image, m.Edit(edited, region), 0.75)[solid] == 175).all()


def test_a_mask_fades_to_zero_at_the_border_of_its_box():
    region = r.face_region(LANDMARKS)
    mask = m.soft_mask(region, (400, 400))
    rows, columns = r.bounding_box(region, (400, 400))
    assert mask.max() > 0.999 and mask.min() == 0
    assert mask[rows][0].max() < 0.1 and mask[:, columns][:, 0].max() < 0.1


def test_labels_name_the_regions_that_were_touched():
    labels = {name: m.MANIPULATIONS[name].labels for name in m.PAPER}
    assert labels == {
        "mouth-flip-vertical": (1, 0, 0),
        "mouth-flip-horizontal": (1, 0, 0),
        "eye-flip": (0, 1, 0),
        "face-warp": (1, 1, 1),
    }
    assert m.MANIPULATIONS["nose-flip"].labels == (0, 0, 1)
    assert m.REGIONS == ("mouth", "eye", "nose")


def test_half_of_the_draws_are_untouched_and_each_manipulation_has_an_eighth():
    tiny = np.zeros((64, 64, 3), np.uint8)
    generator = rng(1)
    n = 1600
    names = [m.draw(tiny, LANDMARKS / 3.5, generator).name for _ in range(n)]
    # Four standard deviations of a binomial count.
    assert abs(names.count(m.UNTOUCHED) - n / 2) < 4 * (n / 4) ** 0.5
    for name in m.PAPER:
        assert abs(names.count(name) - n / 8) < 4 * (n * 7 / 64) ** 0.5


def test_an_untouched_draw_is_the_image_itself_with_no_label(image):
    example = m.apply(m.UNTOUCHED, image, LANDMARKS, rng())
    assert np.array_equal(example.pixels, image)
    assert example.labels == (0, 0, 0) and not example.manipulated


def test_the_warp_is_affine_on_every_triangle():
    field = m.piecewise_affine_field((61, 91), 0.05, rng()).astype(np.float64)
    # Cells are 20 x 30 pixels; the second differences vanish inside the upper left triangle of the first.
    inside = field[:8, :12]
    assert np.abs(np.diff(inside, 2, axis=0)).max() < 1e-4
    assert np.abs(np.diff(inside, 2, axis=1)).max() < 1e-4
    assert np.abs(np.diff(field, axis=0)).max() < 3  # and it has no tears


@pytest.mark.parametrize("name", m.MANIPULATIONS)
@pytest.mark.parametrize(
    "landmarks",
    [LANDMARKS - 90, LANDMARKS + 120, np.full((5, 2), 50, np.float32), LANDMARKS * 4, LANDMARKS * 0.05],
    ids=["off-top-left", "off-bottom-right", "one-point", "huge", "tiny"],
)
def test_odd_landmarks_never_crash(image, name, landmarks):
    assert m.apply(name, image, landmarks.astype(np.float32), rng()).pixels.shape == image.shape


def test_an_unknown_manipulation_suggests_the_nearest(image):
    with pytest.raises(UnknownNameError, match="Did you mean 'eye-flip'"):
        m.apply("eye-flop", image, LANDMARKS, rng())


@pytest.mark.parametrize("n_points", r.LAYOUTS)
@pytest.mark.parametrize("name", m.MANIPULATIONS)
def test_every_manipulation_takes_dense_landmarks(image, name, n_points):
    example = m.apply(name, image, dense(n_points), rng())
    assert example.pixels.shape == image.shape and (example.pixels != image).any()


@pytest.mark.parametrize("shape", [(6, 2), (98, 2), (468, 2), (68, 3), (5, 3), (0, 2)])
def test_landmarks_in_no_known_order_are_an_error_that_says_so(image, shape):
    with pytest.raises(DataError, match=r"no known order: expected \[n, 2\] with n one of 5, 68, 106"):
        m.apply("eye-flip", image, np.zeros(shape, np.float32), rng())
