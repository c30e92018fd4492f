"""Operations on pixels: what they compile to, in whatever instructions, is what they say."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit
from numba.core import config

from onnxcam.kernels import pixel_lanes

RANDOM = np.random.default_rng(8)


def in_two_rows(operation):
    """An operation on two rows of 16 bytes that gives pairs, its results seen through sums."""

    def run(data, weights, out):
        rows = pixel_lanes.two_rows(data, 3, data, 40)
        by = pixel_lanes.spread(weights, 2)
        high = pixel_lanes.add_products(pixel_lanes.zeros(), operation(rows), by)
        low = pixel_lanes.add_products(high, operation(rows), pixel_lanes.spread(weights, 5))
        a, b = pixel_lanes.levels(high, low), pixel_lanes.levels(low, high)
        pixel_lanes.store(out, 1, pixel_lanes.pack(a, b, b, a))

    return run


def added_up(operation):
    def run(data, weights, out):
        above, below = pixel_lanes.load(data, 1), pixel_lanes.load(data, 32)
        pairs = operation(above, below)
        high = pixel_lanes.add_products(pixel_lanes.zeros(), pairs, pixel_lanes.spread(weights, 0))
        low = pixel_lanes.add_products(high, pairs, pixel_lanes.spread(weights, 3))
        a, b = pixel_lanes.levels(high, low), pixel_lanes.levels(low, high)
        pixel_lanes.store(out, 0, pixel_lanes.pack(a, a, b, b))

    return run


def closed_up(data, weights, out):
    rows = pixel_lanes.close_up(pixel_lanes.load(data, 7))
    pixel_lanes.store_above(out, 2, rows)
    pixel_lanes.store_below(out, 30, rows)


CASES = {
    "pixels 0 and 1": in_two_rows(pixel_lanes.pixels_01),
    "pixels 2 and 3": in_two_rows(pixel_lanes.pixels_23),
    "quarter 0": added_up(pixel_lanes.quarter_0),
    "quarter 1": added_up(pixel_lanes.quarter_1),
    "quarter 2": added_up(pixel_lanes.quarter_2),
    "quarter 3": added_up(pixel_lanes.quarter_3),
    "close up": closed_up,
}


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_as_in_numpy(case, plain, monkeypatch):
    """With this machine's instructions, and in the plain arithmetic that others get."""
    if plain:
        monkeypatch.setattr(config, "CPU_FEATURES", "")
    run = CASES[case]
    compiled = njit(run)
    seen = set()
    for most in (40, 400, 4000, 32767):
        for _ in range(10):
            data = RANDOM.integers(0, 256, 64).astype(np.uint8)
            weights = RANDOM.integers(-most // 4, most, 7).astype(np.int16)
            expected, found = np.zeros((2, 64), np.uint8)
            run(data, weights, expected)
            compiled(data, weights, found)
            np.testing.assert_array_equal(found, expected)
            seen.update(expected.tolist())
    assert len(seen) > 100
    assert {0, 255} <= seen


def test_numbers_of_two_pixels():
    rows = np.arange(100, 132, dtype=np.uint8)
    found = pixel_lanes.pixels_23(rows).reshape(2, 8)
    assert found[0].tolist() == [106, 109, 107, 110, 108, 111, 0, 0]
    assert found[1].tolist() == [122, 125, 123, 126, 124, 127, 0, 0]
    assert pixel_lanes.close_up(rows)[:16].tolist() == [
        *(100, 101, 102, 104, 105, 106, 108, 109, 110, 112, 113, 114), *(0, 0, 0, 0)
    ]  # fmt: skip
