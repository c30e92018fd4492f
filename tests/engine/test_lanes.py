"""The named lane operations: what they compile to is what their Python says."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from onnxcam.kernels import lanes

RANDOM = np.random.default_rng(5)
EDGES = np.array([0, 1, 127, 128, 255, 256, 32767, 32768, 32769, 65535], np.uint16)


def numbers() -> np.ndarray:
    found = RANDOM.integers(0, 65536, 32).astype(np.uint16)
    found[: len(EDGES)] = RANDOM.permutation(EDGES)
    return found


def two(operation):
    def run(x, y, out):
        lanes.store(out, 0, operation(lanes.load(x, 0), lanes.load(y, 0)))

    return run


def shifted_right(x, y, out):
    lanes.store(out, 0, lanes.right(lanes.load(x, 0), 7))


def shifted_right_signed(x, y, out):
    lanes.store(out, 0, lanes.right_signed(lanes.load(x, 0), 6))


def filled(x, y, out):
    lanes.store(out, 0, lanes.add(lanes.fill(-300), lanes.fill(x[0])))


def one(operation):
    def run(x, y, out):
        lanes.store(out, 0, operation(lanes.load(x, 0)))

    return run


BINARY = (
    lanes.add,
    lanes.subtract,
    lanes.subtract_to_zero,
    lanes.larger,
    lanes.multiply,
    lanes.multiply_high,
    lanes.multiply_high_signed,
)
SPREADS = tuple(getattr(lanes, f"spread_{part}") for part in range(3))


@pytest.mark.parametrize(
    "run",
    [
        *map(two, BINARY),
        *map(one, (*SPREADS, lanes.magnitude)),
        shifted_right,
        shifted_right_signed,
        filled,
    ],
)
def test_arithmetic(run):
    compiled = njit(run)
    for _ in range(20):
        x, y, found, expected = numbers(), numbers(), numbers(), numbers()
        with np.errstate(over="ignore"):
            run(x, y, expected)
        compiled(x, y, found)
        np.testing.assert_array_equal(found, expected)


def test_arithmetic_against_numpy():
    x, y = numbers(), numbers()
    signed = [each.view(np.int16).astype(int) for each in (x, y)]
    wide = x.astype(int), y.astype(int)
    np.testing.assert_array_equal(lanes.multiply_high(x, y), wide[0] * wide[1] // 65536)
    product = lanes.multiply_high_signed(x, y).view(np.int16)
    np.testing.assert_array_equal(product, signed[0] * signed[1] // 65536)
    np.testing.assert_array_equal(lanes.subtract_to_zero(x, y), (wide[0] - wide[1]).clip(0))
    np.testing.assert_array_equal(lanes.multiply(x, y), wide[0] * wide[1] % 65536)
    np.testing.assert_array_equal(lanes.right_signed(x, 6).view(np.int16), signed[0] // 64)


def test_spread_pixels_are_in_the_order_crossed():
    pixels = RANDOM.integers(0, 256, 32).astype(np.uint16)
    out = np.zeros((3, 32), np.uint16)
    for part, spread in enumerate(SPREADS):
        out[part, list(lanes.CROSSED)] = spread(pixels)
    np.testing.assert_array_equal(out.reshape(-1), pixels.repeat(3))


def copy_bytes(data, out):
    lanes.copy_8(data, 4, out, 9)
    lanes.put_byte(out, 0, lanes.byte(data, 7))


def test_bytes():
    data = RANDOM.integers(0, 256, 80).astype(np.uint8)
    found, expected = np.zeros(80, np.uint8), np.zeros(80, np.uint8)
    copy_bytes(data, expected)
    njit(copy_bytes)(data, found)
    np.testing.assert_array_equal(found, expected)
    assert found.any()


def move(data, out):
    for at in range(0, 32, 8):
        lanes.copy_8(data, 85 + at, out, 3 + at)


def test_bytes_of_a_picture_with_gaps():
    """Positions count in memory: row y of a view begins at y times its stride."""
    data = RANDOM.integers(0, 256, (5, 90)).astype(np.uint8)
    view = data[:, :66].reshape(5, 22, 3)
    assert not view.flags.c_contiguous
    for run in (move, njit(move)):
        out = np.zeros(80, np.uint8)
        run(view, out)
        np.testing.assert_array_equal(out[3:35], data.reshape(-1)[85:117])


def carve(work, out):
    a = lanes.carve_uint16(work, 1, 2, 5)
    b = lanes.carve_float32(work, 4, 1, 3)
    a[1, 4] = 7
    b[0, 2] = 2.5
    out[0] = a[1, 4] + b[0, 2]
    lanes.copy_entry(work, 7, a, 1)


def entries(table, out):
    lanes.store(out, 0, lanes.load_8(table, 3))


def test_entries_of_a_table():
    table = RANDOM.integers(-(2**63), 2**63, 16)
    for run in (entries, njit(entries)):
        out = np.zeros(32, np.uint16)
        run(table, out)
        np.testing.assert_array_equal(out, table.view(np.uint16)[12:44])


def test_work_space():
    expected, found, out = np.arange(8), np.arange(8), np.zeros((2, 1))
    carve(expected, out[0])
    njit(carve)(found, out[1])
    np.testing.assert_array_equal(found, expected)
    assert out.tolist() == [[9.5], [9.5]]
    assert found.view(np.float32)[8 + 2] == 2.5
    assert found.view(np.uint16)[4 + 1] == 7
