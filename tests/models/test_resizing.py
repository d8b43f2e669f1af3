"""Parameters brought to other sizes, against OpenCV and SciPy."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import make_interp_spline

from hubmap_ml.models.resizing import (
    resized_grid,
    resized_patches,
    resized_swin_table,
    resized_table,
    table_sides,
)


def table(window: int, heads: int = 2, extra: int = 0) -> torch.Tensor:
    draws = torch.Generator().manual_seed(window)
    return torch.randn((2 * window - 1) ** 2 + extra, heads, generator=draws)


@settings(deadline=None, max_examples=25)
@given(window=st.integers(1, 60), extra=st.sampled_from([0, 3]))
def test_a_table_says_its_side(window: int, extra: int) -> None:
    assert table_sides((2 * window - 1) ** 2 + extra) == (2 * window - 1, extra)


@pytest.mark.parametrize("rows", [5, 16, 30, 27 * 27 + 1])
def test_what_is_no_table_is_refused(rows: int) -> None:
    with pytest.raises(ValueError, match="no table of relative positions"):
        table_sides(rows)


@pytest.mark.parametrize("extra", [0, 3])
def test_a_table_of_the_same_window_loses_only_the_class_tokens_rows(extra: int) -> None:
    source = table(4, extra=extra)
    assert torch.equal(resized_table(source, 49), source[:49])


@pytest.mark.parametrize(("source", "target"), [(4, 9), (14, 56), (14, 7), (8, 5)])
def test_a_table_is_a_spline_through_geometric_places(source: int, target: int) -> None:
    given_table = table(source, extra=3)
    found = resized_table(given_table, (2 * target - 1) ** 2).double().view(2 * target - 1, 2 * target - 1, 2)
    # The ratio by bisection, as BEiT finds it.
    low, high = 1e-3, 10.0
    while high - low > 1e-12:
        q = (low + high) / 2
        low, high = (low, q) if sum(q**i for i in range(source - 1)) > target - 1 else (q, high)
    steps = np.cumsum(q ** np.arange(source - 1))
    places = np.concatenate([-steps[::-1], [0], steps])
    assert places[-1] == pytest.approx(target - 1)
    places[[0, -1]] = -(target - 1), target - 1
    wanted = np.arange(-(target - 1), target)
    heads = given_table[:-3].double().view(2 * source - 1, 2 * source - 1, 2).numpy()
    for head in range(2):
        along_rows = make_interp_spline(places, heads[..., head], k=3, axis=0)(wanted)
        both = make_interp_spline(places, along_rows, k=3, axis=1)(wanted)
        np.testing.assert_allclose(found[..., head], both, atol=1e-5)


def test_near_positions_keep_their_values_when_a_window_grows() -> None:
    small, large = table(5).view(9, 9, 2), resized_table(table(5), 33 * 33).view(33, 33, 2)
    torch.testing.assert_close(large[15:18, 15:18], small[3:6, 3:6], atol=1e-5, rtol=1e-5)


def test_swin_tables_are_resized_bicubically() -> None:
    source = table(7)
    found = resized_swin_table(source, 23 * 23).view(23, 23, 2).numpy()
    wanted = cv2.resize(source.view(13, 13, 2).numpy(), (23, 23), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_patches_are_resized_bilinearly() -> None:
    weight = torch.randn(2, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    found = resized_patches(weight, 16)
    for kernel, wanted in zip(found.flatten(0, 1), weight.flatten(0, 1), strict=True):
        np.testing.assert_allclose(kernel, cv2.resize(wanted.numpy(), (16, 16)), atol=1e-5)
    assert resized_patches(weight.half(), 16).dtype == torch.float16


@pytest.mark.parametrize("class_token", [0, 1])
def test_positions_are_resized_without_the_class_token(class_token: int) -> None:
    positions = torch.randn(1, 16 + class_token, 5, generator=torch.Generator().manual_seed(0))
    found = resized_grid(positions, 49)[0].view(7, 7, 5).numpy()
    grid = positions[0, class_token:].view(4, 4, 5).numpy()
    np.testing.assert_allclose(found, cv2.resize(grid, (7, 7), interpolation=cv2.INTER_CUBIC), atol=1e-4)
    with pytest.raises(ValueError, match="no square grid"):
        resized_grid(positions, 48)
