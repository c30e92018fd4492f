from __future__ import annotations

import io
import os

import numpy as np
import pytest
from PIL import Image

from helpers_explaining import HandMade
from onnxcam import Engine, overlay
from onnxcam.errors import InputError, PictureError

PHOTO = np.random.default_rng(6).integers(0, 256, (60, 80, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def result():
    return Engine(HandMade(weight_scale=0.2).bytes()).explain(PHOTO, 1)


def test_heatmap(result):
    assert result.heatmap.dtype == np.float32
    assert result.heatmap.shape == (60, 80)
    assert 0 <= result.heatmap.min() <= result.heatmap.max() <= 1
    assert result.map.max() == 1
    assert result.heatmap is result.heatmap


def test_overlay_is_the_function_on_the_heatmap(result):
    """But for rounding: the heatmap is at the picture's size, the map enlarged while painting."""
    for options in ((), (0.7, "viridis")):
        found, expected = result.overlay(*options), overlay(result.heatmap, PHOTO, *options)
        assert np.abs(found.astype(int) - expected).max() <= 2
    for preset in ("signed", "diverging"):
        np.testing.assert_array_equal(
            result.overlay(preset=preset), overlay(result.raw, PHOTO, preset=preset)
        )
    found = result.overlay(blend="contours", levels=[0.5], interpolation="bicubic")
    expected = overlay(result.map, PHOTO, blend="contours", levels=[0.5], interpolation="bicubic")
    np.testing.assert_array_equal(found, expected)
    out = np.empty_like(PHOTO)
    assert result.overlay(out=out) is out


def test_label(result):
    assert (result.target, result.label, result.synset) == (1, "golden retriever", "n02099601")
    assert result.title == f"golden retriever ({100 * result.probability:.1f} %)"
    assert "golden retriever" in repr(result)


def test_top(result):
    order = np.argsort(-result.scores)
    assert [each.index for each in result.top(5)] == order.tolist()
    assert [each.score for each in result.top(5)] == result.scores[order].tolist()
    assert sum(each.probability for each in result.top(99)) == pytest.approx(1)
    for each in result.top(5):
        assert each.chosen == (each.index == 1)
    for wrong in (0, -1, 2.5, True, None):
        with pytest.raises(InputError, match="top"):
            result.top(wrong)


@pytest.mark.parametrize("target", range(5))
def test_the_chosen_class_is_always_among_the_top(target):
    found = Engine(HandMade().bytes()).explain(PHOTO, target)
    best = np.argsort(-found.scores)[:2].tolist()
    assert [each.index for each in found.top(2)] == best + [target] * (target not in best)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG", ".webp", ".bmp", ".tif"])
def test_save(tmp_path, result, suffix):
    path = tmp_path / f"a{suffix}"
    result.save(path)
    with Image.open(path) as image:
        assert image.size == (80, 60)
        if suffix in (".png", ".bmp", ".tif"):
            np.testing.assert_array_equal(np.asarray(image), result.overlay())
    assert os.listdir(tmp_path) == [path.name]


def test_save_refuses(tmp_path, result):
    for name in ("a.xyz", "a", "a.onnx"):
        with pytest.raises(PictureError, match="no picture format"):
            result.save(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        result.save(tmp_path / "none" / "a.png")
    with pytest.raises(InputError, match=r"\.npy"):
        result.save_map(tmp_path / "a.txt")
    assert os.listdir(tmp_path) == []


def test_save_map(tmp_path, result):
    result.save_map(tmp_path / "a.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), result.heatmap)
    assert os.listdir(tmp_path) == ["a.npy"]


def test_figure(result):
    figure = np.asarray(result.figure())
    panels = [np.kron(each, np.ones((3, 3, 1), np.uint8)) for each in (PHOTO, result.overlay())]
    top = figure.shape[0] - 8 - 180
    np.testing.assert_array_equal(figure[top : top + 180, 8:248], panels[0])
    np.testing.assert_array_equal(figure[top : top + 180, 256:496], panels[1])
    title = figure[:top]
    assert (title == 255).mean() > 0.8
    assert title.min() < 80  # there is text


def test_figure_of_large_and_narrow_pictures():
    engine = Engine(HandMade().bytes())
    assert engine.explain(np.zeros((3000, 40, 3), np.uint8)).figure().height < 1100
    assert engine.explain(np.zeros((1, 1, 3), np.uint8)).figure().width >= 448


def test_a_long_title_stays_inside():
    labels = ["x" * 300] * 5
    figure = Engine(HandMade().bytes(), labels=labels).explain(PHOTO).figure()
    assert figure.width == 2 * 240 + 24
    pixels = np.asarray(figure)
    assert (pixels[:, :4] == 255).all()
    assert (pixels[:, -4:] == 255).all()


def test_png_for_notebooks(result):
    with Image.open(io.BytesIO(result._repr_png_())) as image:
        np.testing.assert_array_equal(np.asarray(image), np.asarray(result.figure()))
