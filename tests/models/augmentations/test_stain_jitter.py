"""Stains are separated and put together as scikit-image does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import hed2rgb, rgb2hed

from hubmap_ml.models.augmentations import StainJitter
from hubmap_ml.models.augmentations.stain_jitter import restained
from tests.models.augmented import loaded

NONE = np.zeros(3)
NO_CHANGE = np.ones(3)


def tissue() -> np.ndarray:
    """Pixels that have some of each stain (scikit-image knows no negative amounts), bright enough to stay in range."""
    amounts = np.random.default_rng(0).uniform(0.02, 0.12, (40, 50, 3))
    return np.rint(hed2rgb(amounts) * 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("factors", "added"),
    [((1.1, 0.9, 1.05), (0, 0, 0)), ((1, 1, 1), (0.05, 0.02, 0.04)), ((0.8, 1.2, 1.1), (0.05, 0.1, 0.03))],
)
def test_changed_amounts_are_those_of_scikit_image(factors: tuple, added: tuple) -> None:
    image = tissue()
    # Its unit is 6 decades of darkness, ours one.
    amounts = rgb2hed(image) * np.array(factors) + np.array(added) / 6
    expected = hed2rgb(amounts) * 255
    found = restained(image, np.array(factors), np.array(added))
    settled = (rgb2hed(image) > 0).all(axis=-1) & (amounts >= 0).all(axis=-1)
    assert settled.mean() > 0.9
    assert abs(found - expected)[settled].max() < 0.75  # rounded to whole grey values


@settings(deadline=None)
@given(seed=st.integers(0, 1000))
def test_without_a_change_every_colour_but_black_stays(seed: int) -> None:
    image = np.random.default_rng(seed).integers(1, 256, (8, 8, 3)).astype(np.uint8)
    np.testing.assert_array_equal(restained(image, NO_CHANGE, NONE), image)


def test_more_of_a_stain_is_darker_and_white_needs_an_addition() -> None:
    image = tissue()
    assert (restained(image, 1.2 * NO_CHANGE, NONE) <= image).all()
    white = np.full((1, 1, 3), 255, np.uint8)
    np.testing.assert_array_equal(restained(white, 1.5 * NO_CHANGE, NONE), white)
    blue = restained(white, NO_CHANGE, np.array([0.2, 0, 0]))[0, 0]
    assert blue[2] > blue[0] > blue[1]  # hematoxylin: its densities are .29 in blue, .65 in red, .70 in green


def test_images_are_bgr_inside_a_pipeline_and_draws_are_where_they_should_be() -> None:
    step = StainJitter(0.2)
    step.set_random_state(np.random.default_rng(1), None)  # type: ignore[arg-type]
    before = loaded()
    after = step(loaded())
    draws = np.random.default_rng(1)
    draws.random()
    factors, added = draws.uniform(0.8, 1.2, 3), draws.uniform(-0.2, 0.2, 3)
    np.testing.assert_array_equal(
        after["img"][..., ::-1], restained(before["img"][..., ::-1], factors, added)
    )


def test_normalised_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="stands before Normalize"):
        StainJitter()({**loaded(), "img": loaded()["img"].astype(np.float32)})
