from __future__ import annotations

import cv2
import matplotlib
import numpy as np
import pytest

from onnxcam.colormaps import COLORMAPS, find_colormap
from onnxcam.errors import MethodError


def test_jet_is_opencvs():
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    expected = cv2.applyColorMap(ramp, cv2.COLORMAP_JET)[:, 0, ::-1]
    np.testing.assert_array_equal(find_colormap("jet"), expected)


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("jet-matplotlib", 1),
        ("viridis", 0),
        ("plasma", 0),
        ("inferno", 0),
        ("magma", 0),
        ("turbo", 0),
        ("hot", 0),
        ("gray", 0),
        ("coolwarm", 1),
    ],
)
def test_others_are_matplotlibs(name, tolerance):
    theirs = matplotlib.colormaps[name.removesuffix("-matplotlib")](np.arange(256))[:, :3]
    difference = find_colormap(name).astype(int) - np.rint(255 * theirs)
    assert np.abs(difference).max() <= tolerance


@pytest.mark.parametrize("name", COLORMAPS)
def test_tables_are_shared_and_can_not_be_changed(name):
    table = find_colormap(name)
    assert table.shape == (256, 3)
    assert table.dtype == np.uint8
    with pytest.raises(ValueError, match="read-only"):
        table[0] = 0


def test_own_table():
    table = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)
    np.testing.assert_array_equal(find_colormap(table), table)


@pytest.mark.parametrize(
    "wrong", ["rainbow", np.zeros((256, 4), np.uint8), np.zeros((256, 3)), np.zeros((3, 256), "u1")]
)
def test_unknown(wrong):
    with pytest.raises(MethodError, match="colormap"):
        find_colormap(wrong)
