"""Frames in, overlays out: against Engine.explain, frame by frame."""

from __future__ import annotations

import tracemalloc

import cv2
import numpy as np
import pytest

import onnxcam_models
from helpers_explaining import HandMade
from helpers_shipped_networks import held_out_scenes
from onnxcam import Engine, Stream
from onnxcam.errors import InputError, PictureError, PreprocessError, TargetError

MADE = HandMade(weight_scale=0.2)
RANDOM = np.random.default_rng(4)
FRAMES = RANDOM.integers(0, 256, (6, 20, 30, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def engine():
    return Engine(MADE.bytes())


def check_as_explained(stream, painted, result):
    np.testing.assert_array_equal(stream.map, result.map)
    assert (stream.target, stream.label) == (result.target, result.label)
    assert (stream.score, stream.probability) == (result.score, result.probability)
    assert stream.diagnosis == result.diagnosis
    assert stream.rectangle == result.rectangle
    assert np.abs(painted.astype(int) - result.overlay()).max() <= 1


@pytest.mark.parametrize("target", [None, 3, "tabby cat"])
@pytest.mark.parametrize("changes", [{}, {"targets": "several"}, {"emit": "heatmap"}, {"batch": 1}])
def test_every_frame_as_explain(target, changes):
    engine = Engine(MADE.but(**changes).bytes())
    stream = Stream(engine, target)
    for frame in FRAMES:
        painted = stream(frame)
        assert painted.shape == frame.shape
        check_as_explained(stream, painted, engine.explain(frame, target))


def test_frames_of_other_sizes(engine):
    stream = Stream(engine)
    for shape in [(20, 30), (9, 8), (20, 30), (6, 6)]:
        frame = RANDOM.integers(0, 256, (*shape, 3), dtype=np.uint8)
        check_as_explained(stream, stream(frame), engine.explain(frame))


def test_bgr_is_rgb_backwards(engine):
    stream, backwards = Stream(engine), Stream(engine, color="BGR")
    for frame in FRAMES:
        expected = stream(frame)
        found = backwards(np.ascontiguousarray(frame[..., ::-1]))
        np.testing.assert_array_equal(backwards.map, stream.map)
        assert np.abs(found[..., ::-1].astype(int) - expected).max() <= 1


def test_painting_options(engine):
    options = {"alpha": 0.8, "colormap": "viridis", "blend": "map-alpha"}
    painted = Stream(engine, 3, **options)(FRAMES[0])
    np.testing.assert_array_equal(painted, engine.explain(FRAMES[0], 3).overlay(**options))


def test_a_view_of_a_larger_frame(engine):
    large = RANDOM.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    view = large[10:30, 5:35]
    check_as_explained(stream := Stream(engine), stream(view), engine.explain(view.copy()))


def test_out(engine):
    stream = Stream(engine, 3)
    expected = stream(FRAMES[0]).copy()
    out = np.empty_like(FRAMES[0])
    assert stream(FRAMES[0], out=out) is out
    np.testing.assert_array_equal(out, expected)
    frame = FRAMES[0].copy()
    assert stream(frame, out=frame) is frame
    np.testing.assert_array_equal(frame, expected)
    with pytest.raises(InputError, match="out"):
        stream(FRAMES[0], out=out[:5])


@pytest.mark.parametrize("smoothing", [0.5, 0.9])
def test_smoothing(engine, smoothing):
    stream, expected = Stream(engine, 3, smoothing=smoothing), None
    for frame in FRAMES:
        latest = engine.explain(frame, 3).map.astype(float)
        mean = latest if expected is None else smoothing * expected + (1 - smoothing) * latest
        expected = mean
        np.testing.assert_allclose(stream.explain(frame), expected, atol=1e-6)


def test_smoothing_begins_anew_with_another_class(engine):
    best = [engine.explain(frame).target for frame in FRAMES]
    changes = [i for i in range(1, len(best)) if best[i] != best[i - 1]]
    assert changes, "the frames should be of several classes"
    stream = Stream(engine, smoothing=0.9)
    for i, frame in enumerate(FRAMES):
        stream.explain(frame)
        if i in changes:
            np.testing.assert_array_equal(stream.map, engine.explain(frame).map)


def test_a_silent_frame_has_its_reason():
    made = HandMade()
    made.weights["dense"][1] = np.nan
    stream = Stream(Engine(made.bytes()), 1, smoothing=0.5)
    assert not stream.explain(FRAMES[0]).any()
    assert stream.diagnosis.reason == "non_finite"


@pytest.mark.parametrize(
    "frame",
    [
        FRAMES[0].astype(np.float32),
        FRAMES[0][..., :2],
        FRAMES[0][..., 0],
        FRAMES[:0],
        FRAMES,
        FRAMES[0][:0],
        "frame.png",
    ],
)
def test_no_frames(engine, frame):
    with pytest.raises(PictureError, match=r"frame: expected a uint8 array \[H, W, 3\]"):
        Stream(engine)(frame)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"smoothing": 1}, InputError, "smoothing: expected 0 to less than 1"),
        ({"smoothing": -0.1}, InputError, "smoothing"),
        ({"smoothing": "0.5"}, InputError, "smoothing"),
        ({"smoothing": float("nan")}, InputError, "smoothing"),
        ({"color": "HSV"}, InputError, "'RGB' or 'BGR'"),
        ({"target": 99}, TargetError, "target 99"),
    ],
)
def test_wrong_options(engine, options, error, message):
    with pytest.raises(error, match=message):
        Stream(engine, **options)


def test_files_that_do_not_fit():
    with pytest.raises(PreprocessError, match="preprocess="):
        Stream(Engine(MADE.but(preprocess=None).bytes()))
    with pytest.raises(InputError, match="batches of 4"):
        Stream(Engine(MADE.but(batch=4).bytes()))


def test_buffers_are_kept(engine):
    """After the first frames of a size nothing as large as the model's input is allocated."""
    stream = Stream(engine, 3, smoothing=0.9)
    frames = RANDOM.integers(0, 256, (4, 300, 400, 3), dtype=np.uint8)
    painted = [stream(frame) for frame in frames]
    assert all(each is painted[0] for each in painted)
    tracemalloc.start()
    try:
        for frame in frames:
            stream.explain(frame)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < frames[0].nbytes / 20


def test_a_shipped_network_end_to_end():
    """Scenes of handwriting, as a camera would give them: the map's peak lies in the digit."""
    from onnxcam_export import from_onnx

    shipped = onnxcam_models.network("digits-in-clutter")
    model = from_onnx(
        str(shipped.path),
        layer=shipped.layer,
        preprocess=shipped.preprocess,
        labels=shipped.labels,
        activation=shipped.activation,
    )
    engine = Engine(model.SerializeToString(), threads=1)
    hits = []
    for scene in held_out_scenes(20, seed=5):
        frame = np.repeat(scene.picture[..., None], 3, axis=2)
        for digit in scene.digits:
            stream = Stream(engine, digit, color="BGR")
            painted = stream(frame)
            assert stream.label == str(digit)
            assert painted.shape == frame.shape
            heat = np.abs(painted.astype(int) - frame).sum(axis=2)
            assert heat.any()
            hits.append(scene.hit(digit, cv2.resize(stream.map, (96, 96))))
    assert np.mean(hits) > 0.9
