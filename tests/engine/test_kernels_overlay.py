"""The painting kernels, as Python and compiled, against NumPy and OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers_kernels import as_python
from onnxcam import kernels
from onnxcam.colormaps import find_colormap
from onnxcam.kernels import lookups

RANDOM = np.random.default_rng(3)
MIX, ADD, FOLLOW, COVER = range(4)
# Widths around the blocks of 32 and 64 bytes and the strips of 512 pixels.
SIZES = [
    *((1, 1), (2, 5), (9, 10), (5, 11), (7, 21), (6, 22), (9, 32), (10, 54), (4, 64), (3, 171)),
    *((2, 512), (3, 1030)),
]
GUARD = 77
# Levels of JET: the kernel's own lines for OpenCV's steps, and what rounding to bytes adds.
JET_STEP = 2.5 + 1.5


def heat(h: int = 7, w: int = 6) -> np.ndarray:
    return RANDOM.random((h, w), np.float32)


def photo(*shape: int) -> np.ndarray:
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


def guarded(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    """An array, and the larger one that it is the middle of."""
    size = int(np.prod(shape))
    around = np.full(size + 256, GUARD, np.uint8)
    return around[128 : 128 + size].reshape(shape), around


def intact(around: np.ndarray) -> bool:
    return bool((around[:128] == GUARD).all() and (around[-128:] == GUARD).all())


def work_space(size: int) -> tuple[np.ndarray, np.ndarray]:
    around = np.full(size + 64, -GUARD, np.int64)
    return around[32 : 32 + size], around


def whole(picture) -> tuple[float, ...]:
    return 0.0, 0.0, float(picture.shape[1]), float(picture.shape[0])


def colors(
    values, picture, table="viridis", alpha=0.4, blend=MIX, bicubic=0, *, run, place=None, zero=0.0
):
    height, width, channels = picture.shape
    out, around = guarded(height, width, 4 if channels == 4 else 3)
    work, spare = work_space(8 * width + values.shape[1] + 4500)
    place = place or whole(picture)
    palette = find_colormap(table)
    run(values, *place, zero, picture, palette, alpha, blend, bicubic, 0, height, out, work)
    assert intact(around)
    assert (spare[:32] == -GUARD).all() and (spare[-32:] == -GUARD).all()
    return out


def jet(values, picture, alpha=0.4, bgr=0, *, run, place=None):
    height, width, _ = picture.shape
    out, around = guarded(height, width, 3)
    work, spare = work_space(7 * width + values.shape[1] + 1600)
    run(values, *(place or whole(picture)), 0.0, picture, alpha, bgr, 0, height, out, work)
    assert intact(around)
    assert (spare[:32] == -GUARD).all() and (spare[-32:] == -GUARD).all()
    return out


def enlarged(values, picture, bicubic=0):
    flag = cv2.INTER_CUBIC if bicubic else cv2.INTER_LINEAR
    large = cv2.resize(values, (picture.shape[1], picture.shape[0]), interpolation=flag)
    return large.astype(float).clip(0, 1)


def mixed(index, picture, table, alpha, blend):
    """What a blend says, in float64, for given indices of the colormap."""
    under = np.broadcast_to(picture[..., :3], (*picture.shape[:2], 3)).astype(float)
    color = find_colormap(table)[index].astype(float)
    weight = alpha * index[..., None] / 255 if blend == FOLLOW else alpha
    if blend == COVER:
        return color
    if blend == ADD:
        return np.minimum(under + weight * color, 255)
    return (1 - weight) * under + weight * color


def off(found, values, picture, table, alpha, blend, bicubic=0):
    """The largest distance from the exact blend with the index just below or above.

    An index that lies on the edge of two may come out as either.
    """
    place = enlarged(values, picture, bicubic) * 255
    distances = [
        np.abs(found[..., :3] - mixed(place_of(place + shift), picture, table, alpha, blend))
        for shift in (-0.02, 0.0, 0.02)
    ]
    return np.min([each.max(axis=2) for each in distances], axis=0).max()


def place_of(values):
    return values.clip(0, 255).astype(int)


@pytest.fixture(params=["python", "compiled"])
def flavour(request):
    return (
        (lambda kernel: as_python(kernel)) if request.param == "python" else lambda kernel: kernel
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_colors(flavour, size, channels):
    run = flavour(kernels.overlay_colors)
    values, picture = heat(), photo(*size, channels)
    for blend in (MIX, ADD, FOLLOW, COVER):
        bicubic = blend % 2
        found = colors(values, picture, "viridis", 0.4, blend, bicubic, run=run)
        assert off(found, values, picture, "viridis", 0.4, blend, bicubic) <= 0.6
        if channels == 4:
            np.testing.assert_array_equal(found[..., 3], picture[..., 3])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_colors_looked_up_at_once_are_the_same(monkeypatch, size, channels):
    """What only processors with AVX-512 VBMI do, here as Python."""
    values, picture = heat(), photo(*size, channels)
    for alpha, blend in ((0.4, MIX), (0.8, MIX), (0.4, ADD), (0.4, FOLLOW), (1.0, COVER)):
        monkeypatch.setattr(lookups, "at_once", lambda: False)
        run = as_python(kernels.overlay_colors)
        expected = colors(values, picture, "turbo", alpha, blend, run=run)
        monkeypatch.setattr(lookups, "at_once", lambda: True)
        found = colors(values, picture, "turbo", alpha, blend, run=run)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_jet_is_opencvs(flavour, size, channels):
    values, picture = heat(), photo(*size, channels)
    index = place_of(enlarged(values, picture) * 255 + 1e-4)
    for alpha in (0.0, 0.4, 0.5):
        found = jet(values, picture, alpha, run=flavour(kernels.overlay_jet))
        exact = mixed(index, picture, "jet", alpha, MIX)
        assert np.abs(found - exact).max() <= JET_STEP * alpha + 0.55
    swapped = jet(values, picture[..., ::-1].copy(), 0.4, 1, run=flavour(kernels.overlay_jet))
    straight = jet(values, picture, 0.4, run=flavour(kernels.overlay_jet))
    np.testing.assert_array_equal(swapped[..., ::-1], straight)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (60, 90), (90, 60)])
def test_maps_of_any_size(shape):
    """Also larger than the picture, which only samples it."""
    values, picture = heat(*shape), photo(31, 45, 3)
    found = colors(values, picture, run=kernels.overlay_colors)
    assert off(found, values, picture, "viridis", 0.4, MIX) <= 0.6
    found = colors(values, picture, bicubic=1, run=kernels.overlay_colors)
    assert off(found, values, picture, "viridis", 0.4, MIX, 1) <= 0.6
    exact = mixed(place_of(enlarged(values, picture) * 255 + 1e-4), picture, "jet", 0.4, MIX)
    assert (
        np.abs(jet(values, picture, run=kernels.overlay_jet) - exact).max() <= JET_STEP * 0.4 + 0.55
    )


@settings(max_examples=60, deadline=None)
@given(
    place=st.tuples(
        st.floats(-30, 40), st.floats(-30, 40), st.floats(0.01, 80), st.floats(0.01, 80)
    ),
    zero=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_rectangles(place, zero):
    """Inside the map as in a picture of its own; outside the background; nothing else written."""
    left, top, width, height = place
    place = (left, top, left + width, top + height)
    values, picture = heat(3, 4), photo(20, 26, 3)
    found = colors(values, picture, blend=COVER, run=kernels.overlay_colors, place=place, zero=zero)
    y, x = np.mgrid[0:20, 0:26] + 0.5
    inside = (place[0] <= x) & (x < place[2]) & (place[1] <= y) & (y < place[3])
    plain = find_colormap("viridis")[int(zero * 255)]
    assert (found[~inside] == plain).all()
    u = ((x - left) * 4 / width - 0.5).clip(0, 3)
    v = ((y - top) * 3 / height - 0.5).clip(0, 2)
    j, i = np.minimum(v.astype(int), 1), np.minimum(u.astype(int), 2)
    fv, fu = v - j, u - i
    upper = values[j, i] * (1 - fu) + values[j, i + 1] * fu
    lower = values[j + 1, i] * (1 - fu) + values[j + 1, i + 1] * fu
    exact = (upper * (1 - fv) + lower * fv) * 255
    table = find_colormap("viridis")
    near = [np.abs(found.astype(int) - table[place_of(exact + d)]).max(2) for d in (-0.03, 0, 0.03)]
    assert (np.min(near, axis=0)[inside] == 0).all()


BANDS = ((0, 10), (10, 11), (11, 133), (40, 40), (133, 160))


def in_bands(kernel, arguments, picture, tail, work):
    """`picture` painted by a kernel in BANDS, from and to the same rows as the whole of it."""
    out, around = guarded(*picture.shape)
    for first, last in BANDS:
        kernel(*arguments, *tail, first, last, out, np.empty(work, np.int64))
    assert intact(around)
    return out


@pytest.mark.parametrize("width", [50, 830])
@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_bands_of_rows_make_the_whole(scale, width):
    values, picture = scale * heat(3, 5), photo(160, width, 3)
    where = (values, *whole(picture), 0.0, picture)
    for bicubic in (0, 1):
        expected = colors(values, picture, bicubic=bicubic, run=kernels.overlay_colors)
        tail = (find_colormap("viridis"), 0.4, MIX, bicubic)
        found = in_bands(kernels.overlay_colors, where, picture, tail, 8 * width + 5 + 4500)
        np.testing.assert_array_equal(found, expected)
    expected = jet(values, picture, run=kernels.overlay_jet)
    found = in_bands(kernels.overlay_jet, where, picture, (0.4, 0), 7 * width + 5 + 1600)
    np.testing.assert_array_equal(found, expected)


def stairs() -> np.ndarray:
    return (np.arange(256)[:, None] // 32 * np.array([36, 20, 0])).astype(np.uint8)


TABLES = {
    "viridis": find_colormap("viridis"),
    "gray": find_colormap("gray"),
    "kinks": find_colormap("jet"),
    "noise": photo(256, 3),
    "stairs": stairs(),
}


@pytest.mark.parametrize("blend", [MIX, ADD, COVER])
@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("shape", [(2, 3), (3, 3), (9, 7)])
def test_colours_between_rows(name, shape, blend):
    """Interpolated only where the table allows it: 1.8 levels, and rounding."""
    smooth = False
    for scale in (0.02, 0.3, 1.0):
        values, picture = scale * heat(*shape), photo(230, 580, 3)
        found = colors(values, picture, TABLES[name], 0.4, blend, run=kernels.overlay_colors)
        distance = off(found, values, picture, TABLES[name], 0.4, blend)
        assert distance <= 2.4
        smooth |= distance > 0.6
        rgba = photo(230, 580, 4)
        found = colors(values, rgba, TABLES[name], 0.4, blend, run=kernels.overlay_colors)
        assert off(found, values, rgba, TABLES[name], 0.4, blend) <= 2.4
        np.testing.assert_array_equal(found[..., 3], rgba[..., 3])
    # Three of these tables are too steep somewhere, and viridis is when it is not weighted.
    assert smooth == (name == "gray" or (name == "viridis" and blend != COVER))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    steps=st.sampled_from([1, 2, 3, 6]),
    alpha=st.floats(0.0, 1.0),
    scale=st.floats(0.0, 1.0),
)
def test_colours_between_rows_of_any_table(seed, steps, alpha, scale):
    """Slopes that change anywhere, steep and flat, and maps to match."""
    random = np.random.default_rng(seed)
    slopes = np.repeat(random.integers(-steps, steps + 1, (256, 3)), random.integers(1, 60), axis=0)
    table = np.abs(np.cumsum(slopes[:256], axis=0) + 128).clip(0, 255).astype(np.uint8)
    values = np.float32(random.random() * (1 - scale) + scale * random.random((3, 4)))
    picture = photo(100, 1320, 3)
    found = colors(values, picture, table, alpha, MIX, run=kernels.overlay_colors)
    assert off(found, values, picture, table, alpha, MIX) <= 2.4


def test_jet_of_large_pictures():
    """Rows whose slopes follow from another's by adding, with and without a part of a block."""
    for size in ((300, 64), (301, 75), (97, 33)):
        values, picture = heat(3, 4), photo(*size, 3)
        index = place_of(enlarged(values, picture) * 255 + 1e-4)
        for alpha in (0.1, 0.4, 0.5):
            found = jet(values, picture, alpha, run=kernels.overlay_jet)
            exact = mixed(index, picture, "jet", alpha, MIX)
            assert np.abs(found - exact).max() <= JET_STEP * alpha + 0.55


def contours(values, picture, lines, thickness=1.5, smooth=1, bicubic=0, *, run, place=None):
    height, width, channels = picture.shape
    out, around = guarded(height, width, 4 if channels == 4 else 3)
    work, spare = work_space(11 * width + values.shape[1] + 1000)
    lines = np.array(lines, np.float32)
    run(
        values,
        *(place or whole(picture)),
        picture,
        find_colormap("jet"),
        1.0,
        lines,
        thickness,
        smooth,
        bicubic,
        0,
        height,
        out,
        work,
    )
    assert intact(around)
    assert (spare[:32] == -GUARD).all() and (spare[-32:] == -GUARD).all()
    return out


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_contour_of_a_ramp(flavour, channels):
    """Where a map rises by 1/40 a pixel, a level is one column, as wide as asked."""
    run = flavour(kernels.overlay_contours)
    values = np.array([[0, 1]], np.float32)  # from 0 at x = 20 to 1 at x = 60
    picture = photo(6, 80, channels)
    under = np.broadcast_to(picture[..., :3], (6, 80, 3))
    # The pixel x has its centre at x + 0.5 and the value (x - 19.5) / 40: 0.5 lies at x = 39.5.
    for thickness, columns in ((2.0, range(39, 41)), (6.0, range(37, 43))):
        for smooth in (0, 1):
            found = contours(values, picture, [0.5], thickness, smooth, run=run)
            line = np.zeros(80, bool)
            line[list(columns)] = True
            assert (found[:, line, :3] == find_colormap("jet")[127]).all()
            np.testing.assert_array_equal(found[:, ~line, :3], under[:, ~line])
            if channels == 4:
                np.testing.assert_array_equal(found[..., 3], picture[..., 3])
    half = contours(values, np.zeros((6, 80, 3), np.uint8), [0.5], 1.0, run=run)
    near = find_colormap("jet")[127] * 0.5
    assert np.abs(half[:, 39:41].astype(float) - near).max() <= 1
    assert not half[:, :39].any() and not half[:, 41:].any()


def test_contours_lie_where_opencv_finds_them():
    values, picture = heat(5, 5), np.zeros((160, 200, 3), np.uint8)
    for level in (0.3, 0.6):
        for bicubic in (0, 1):
            found = contours(
                values, picture, [level], 2.0, 0, bicubic, run=kernels.overlay_contours
            ).any(axis=2)
            above = (enlarged(values, picture, bicubic) > level).astype(np.uint8)
            cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
            edge = cv2.dilate(above, cross) != cv2.erode(above, cross)
            wide = cv2.dilate(edge.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
            assert found.sum() > 20
            assert wide[found].mean() > 0.99  # the line lies at the edge of the region
            thick = cv2.dilate(found.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
            assert thick[edge].mean() > 0.99  # and follows all of it


def test_flat_maps_have_no_contours(flavour):
    picture = photo(9, 30, 3)
    run = flavour(kernels.overlay_contours)
    for value in (0.0, 0.5, 1.0):
        flat = np.full((3, 3), value, np.float32)
        np.testing.assert_array_equal(contours(flat, picture, [0.25, 0.5], run=run), picture)
    place = (-50.0, -50.0, -1.0, -1.0)
    np.testing.assert_array_equal(contours(heat(), picture, [0.5], run=run, place=place), picture)
