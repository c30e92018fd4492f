"""Scenes: deterministic, boxes where the digits are, handwriting truly held out."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from onnxcam_models import scenes


@pytest.fixture(scope="module")
def digits():
    bunch = load_digits()
    return bunch.images.astype(np.uint8), bunch.target.astype(np.int64)


def test_same_seed_same_scene(digits):
    first, again, other = (
        scenes.compose(np.random.default_rng(seed), *digits) for seed in (5, 5, 6)
    )
    assert np.array_equal(first.picture, again.picture)
    assert first.boxes == again.boxes
    assert not np.array_equal(first.picture, other.picture)


def test_form_of_a_scene(digits):
    rng = np.random.default_rng(0)
    counts = set()
    for _ in range(200):
        scene = scenes.compose(rng, *digits)
        counts.add(len(scene.boxes))
        assert scene.picture.shape == (96, 96)
        assert scene.picture.dtype == np.uint8
        assert len(set(scene.digits)) == len(scene.boxes)
        assert np.flatnonzero(scene.target).tolist() == list(scene.digits)
        taken = np.zeros((96, 96), int)
        for box in scene.boxes:
            assert 0 <= box.left < box.right <= 96
            assert 0 <= box.top < box.bottom <= 96
            assert max(box.right - box.left, box.bottom - box.top) <= 32
            taken[box.top : box.bottom, box.left : box.right] += 1
        assert taken.max() == 1, "boxes overlap"
    assert counts == {1, 2, 3, 4}


def test_the_boxed_digit_is_in_the_box(digits):
    """Of ten known bitmaps, the one that looks most like a box's content is the box's digit."""
    bitmaps, labels = digits
    one_each = np.array([np.flatnonzero(labels == digit)[0] for digit in range(10)])
    templates = bitmaps[one_each]
    rng = np.random.default_rng(1)
    right, total = 0, 0
    for _ in range(60):
        scene = scenes.compose(rng, templates, labels[one_each])
        for box in scene.boxes:
            content = scene.picture[box.top : box.bottom, box.left : box.right].astype(float)
            likeness = []
            for template in templates:
                columns = np.flatnonzero((template > 4).any(0))
                rows = np.flatnonzero((template > 4).any(1))
                tight = template[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
                image = Image.fromarray(tight.astype(np.float32))
                large = np.asarray(image.resize(content.shape[::-1], Image.Resampling.BILINEAR))
                likeness.append(np.corrcoef(content.ravel(), large.ravel())[0, 1])
            right += int(np.argmax(likeness)) == box.digit
            total += 1
    assert right / total > 0.9, f"{right} of {total}"


def test_enlarge_is_cubic_interpolation_and_a_contrast_curve(digits):
    bitmap = digits[0][3]
    padded = Image.fromarray(np.pad(bitmap / 16, 2).astype(np.float32))
    smooth = np.asarray(padded.resize((36, 36), Image.Resampling.BICUBIC))[6:30, 6:30]
    x = np.clip((smooth - 0.22) / 0.56, 0, 1)
    np.testing.assert_allclose(scenes.enlarge(bitmap, 24), 3 * x**2 - 2 * x**3, atol=1e-5)


def test_hit_asks_for_the_digits_own_box():
    boxes = (scenes.Box(3, 10, 20, 30, 40), scenes.Box(8, 50, 60, 70, 80))
    scene = scenes.Scene(np.zeros((96, 96), np.uint8), boxes)
    heatmap = np.zeros((96, 96), np.float32)
    heatmap[20, 29] = 1  # row 20, column 29: a corner of the 3's box
    assert scene.hit(3, heatmap)
    assert not scene.hit(8, heatmap)
    heatmap[20, 30] = 2  # one pixel further right: outside
    assert not scene.hit(3, heatmap)


def test_held_out_part_begins_with_a_form(digits):
    """The forms' labels repeat from person to person; a new form starts 0..9 three times."""
    labels = digits[1]
    start = scenes.HELD_OUT_FROM
    assert labels[start : start + 30].tolist() == list(range(10)) * 3
    assert np.array_equal(labels[start : start + 100], labels[:100])


def test_the_handwriting_that_ships_is_held_out(digits):
    bitmaps, labels = scenes.unseen_handwriting()
    assert bitmaps.shape == (200, 8, 8)
    assert np.bincount(labels).tolist() == [20] * 10
    held_out, held_out_labels = scenes.split(*digits, held_out=True)
    trained, _ = scenes.split(*digits, held_out=False)
    assert len(held_out) + len(trained) == 1797
    known = {x.tobytes(): label for x, label in zip(held_out, held_out_labels, strict=True)}
    assert [known[x.tobytes()] for x in bitmaps] == labels.tolist()
    assert not {x.tobytes() for x in bitmaps} & {x.tobytes() for x in trained}


def test_scenes_need_numpy_only():
    code = (
        "import sys, onnxcam_models.scenes as s; s.unseen_handwriting();"
        "print(sorted({'torch','sklearn','onnx','onnxruntime','numba','PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
