"""The high road, Engine.explain: pictures in, results out."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from helpers_explaining import CHANNELS, CLASSES, LABELS, SIDE, STRETCH, HandMade
from onnxcam import Engine, Result
from onnxcam.contract import Output, Preprocessing, Resize
from onnxcam.errors import (
    ContractError,
    InputError,
    MethodError,
    ModelError,
    PictureError,
    PreprocessError,
    TargetError,
)

MADE = HandMade(weight_scale=0.2)
RANDOM = np.random.default_rng(4)
PHOTOS = [RANDOM.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((20, 30), (9, 8), (6, 6))]


@pytest.fixture(scope="module")
def engine():
    return Engine(MADE.bytes())


def tensor_of(photo) -> np.ndarray:
    small = Image.fromarray(photo).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return (np.asarray(small) / 255).transpose(2, 0, 1)[None]


def softmax(x):
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


@pytest.mark.parametrize("target", [None, -1, 0, 3, "tabby cat", "n02099601", "tinca tinca"])
def test_a_picture(engine, target):
    photo = PHOTOS[0]
    activation, logits = MADE.forward(tensor_of(photo))
    named = {"tabby cat": 0, "n02099601": 1, "tinca tinca": 4, None: -1}
    index = named.get(target, target)
    index = int(logits[0].argmax()) if index == -1 else index
    weights = MADE.gradient(index).reshape(CHANNELS, -1).mean(axis=1)
    raw = np.tensordot(weights, activation[0], 1)

    result = engine.explain(photo, target)

    assert isinstance(result, Result)
    assert result.target == index
    assert result.score == pytest.approx(logits[0, index], abs=1e-4)
    assert result.probability == pytest.approx(softmax(logits[0])[index], abs=1e-5)
    np.testing.assert_allclose(result.raw, raw, atol=1e-5 * np.abs(raw).max())
    np.testing.assert_allclose(result.map, np.maximum(raw, 0) / max(raw.max(), 1e-9), atol=1e-4)
    assert result.heatmap.shape == (20, 30)
    assert (result.layer, result.method) == ("features.relu", "gradcam")
    np.testing.assert_allclose(result.outputs["scores"], logits[0], rtol=1e-4, atol=1e-4)
    assert set(result.outputs) == {"scores"}


@pytest.mark.parametrize("batch", ["N", 1, 2, 4])
def test_several_pictures(batch, engine):
    several = Engine(MADE.but(batch=batch).bytes())
    results = several.explain(PHOTOS, [None, 2, "tabby cat"])
    assert len(results) == 3
    for result, photo, target in zip(results, PHOTOS, [None, 2, 0], strict=True):
        alone = engine.explain(photo, target)
        assert result.target == alone.target
        np.testing.assert_allclose(result.heatmap, alone.heatmap, atol=1e-5)
        np.testing.assert_allclose(result.scores, alone.scores, atol=1e-5)
        np.testing.assert_array_equal(result.picture, photo)


def test_batches_of_other_kinds(engine):
    assert engine.explain([]) == []
    assert [r.target for r in engine.explain(PHOTOS, 3)] == [3, 3, 3]
    stacked = engine.explain(np.stack([PHOTOS[2]] * 2))
    assert [r.picture.shape for r in stacked] == [(6, 6, 3)] * 2
    with pytest.raises(TargetError, match="2 targets for 3 pictures"):
        engine.explain(PHOTOS, [0, 1])
    with pytest.raises(TargetError, match="one each"):
        engine.explain(PHOTOS[0], [0, 1])
    with pytest.raises(PictureError, match="no such file"):
        engine.explain([PHOTOS[0], "none.png"])


def test_method(engine):
    other = Engine(MADE.bytes(), method="hirescam")
    a, b = engine.explain(PHOTOS[0], 3, "hirescam"), other.explain(PHOTOS[0], 3)
    assert a.method == b.method == "hirescam"
    np.testing.assert_array_equal(a.raw, b.raw)
    assert not np.allclose(a.raw, engine.explain(PHOTOS[0], 3).raw)
    with pytest.raises(MethodError, match="unknown"):
        engine.explain(PHOTOS[0], method="cam")
    with pytest.raises(MethodError, match="unknown"):
        Engine(MADE.bytes(), method="cam")


@pytest.mark.parametrize(
    "changes",
    [
        {"targets": "several"},
        {"emit": "weights"},
        {"emit": "heatmap"},
        {"output_4d": True},
        {"layout": "NHWC"},
        {"kind": "softmax"},
        {"dtype": "uint8", "preprocess": Preprocessing(size=(SIDE, SIDE), resize=STRETCH.resize)},
    ],
)
def test_files_of_other_kinds(engine, changes):
    made = MADE.but(**changes)
    if changes.get("dtype") == "uint8":
        made.weights["kernel"] /= 255
    expected, found = engine.explain(PHOTOS[0], 3), Engine(made.bytes()).explain(PHOTOS[0], 3)
    assert found.probability == pytest.approx(expected.probability, rel=1e-4)
    np.testing.assert_allclose(found.heatmap, expected.heatmap, atol=1e-4)
    assert found.method == (None if changes.get("emit") == "heatmap" else "gradcam")


def test_highest_score_without_target_input(engine):
    always = Engine(MADE.but(targets="none").bytes())
    assert always.explain(PHOTOS[0]).target == engine.explain(PHOTOS[0]).target
    with pytest.raises(TargetError, match="no input 'cam_target'"):
        always.explain(PHOTOS[0], 1)


def test_a_tie_explains_the_class_that_is_reported():
    """Saturated sigmoids: the outputs are equal, the logits are not."""
    made = MADE.but(kind="sigmoid", activation=None)
    made.weights["dense"][:] = np.abs(made.weights["dense"]) * 100
    made.weights["dense"][3] *= 5
    engine = Engine(made.bytes())
    result = engine.explain(PHOTOS[0])
    assert result.probabilities.tolist() == [1] * CLASSES
    assert result.target == 0
    np.testing.assert_array_equal(result.raw, engine.explain(PHOTOS[0], 0).raw)


@pytest.mark.parametrize(
    ("kind", "activation", "expected"),
    [
        ("logits", "softmax", softmax),
        ("logits", "sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("logits", None, None),
        ("raw", None, None),
        ("softmax", None, softmax),
        ("sigmoid", None, lambda x: 1 / (1 + np.exp(-x))),
    ],
)
def test_probabilities(kind, activation, expected):
    made = MADE.but(kind=kind, activation=activation)
    result = Engine(made.bytes()).explain(PHOTOS[0], 1)
    _, logits = made.forward(tensor_of(PHOTOS[0]))
    if expected is None:
        assert result.probabilities is None
        assert result.probability is None
        assert result.top(1)[0].probability is None
    else:
        np.testing.assert_allclose(result.probabilities, expected(logits[0]), atol=1e-5)


def test_sigmoid_does_not_overflow():
    from onnxcam.scores import probabilities

    scores = np.array([-1000, 0, 1000], np.float32)
    with np.errstate(all="raise", under="ignore"):
        found = probabilities(scores, Output("y", "logits", "sigmoid"))
        assert probabilities(scores, Output("y", "logits", "softmax")).tolist() == [0, 0, 1]
    assert found.tolist() == [0, 0.5, 1]


def test_crop_places_the_map():
    resize = Resize(mode="crop", shorter_side=8)
    preprocess = Preprocessing(size=(SIDE, SIDE), scale=1 / 255, resize=resize)
    result = Engine(MADE.bytes(), preprocess=preprocess).explain(PHOTOS[0], 1, "hirescam")
    left, top, right, bottom = result.rectangle
    assert (top, bottom) == (20 / 8, 20 * 7 / 8)
    assert (left, right) == (3 * 30 / 12, 9 * 30 / 12)
    y, x = np.mgrid[0:20, 0:30] + 0.5
    outside = (y < top) | (y >= bottom) | (x < left) | (x >= right)
    assert not result.heatmap[outside].any()
    assert result.heatmap[~outside].max() > 0.5


def test_without_preprocessing():
    engine = Engine(MADE.but(preprocess=None).bytes())
    with pytest.raises(PreprocessError, match=r"preprocess= \(imagenet, caffe"):
        engine.explain(PHOTOS[0])
    assert engine.maps(tensor_of(PHOTOS[0]).astype(np.float32)).shape == (1, SIDE, SIDE)
    assert Engine(MADE.but(preprocess=None).bytes(), preprocess="unit").explain(PHOTOS[0])


@pytest.mark.parametrize(
    ("preprocess", "message"),
    [
        ({"size": [5, 5]}, "5x5 contradicts the model's input 6x6"),
        ({"color": "GRAY"}, "1 channels.*3"),
        ("nope", "neither a preset"),
    ],
)
def test_preprocessing_that_contradicts(preprocess, message):
    with pytest.raises(PreprocessError, match=message):
        Engine(MADE.bytes(), preprocess=preprocess)


@pytest.mark.parametrize("preset", ["imagenet", "caffe", "tf", "unit"])
def test_a_preprocessing_that_leaves_nothing_of_the_picture_in_integers(preset):
    made = MADE.but(dtype="uint8", preprocess=None)
    with pytest.raises(PreprocessError, match=r"takes integers \(uint8\), this makes"):
        Engine(made.bytes(), preprocess=preset)
    for good in ({}, {"scale": 0.5, "mean": -20}):
        assert Engine(made.bytes(), preprocess=good).explain(PHOTOS[0])


def test_labels(tmp_path, engine):
    assert engine.labels == LABELS
    path = tmp_path / "names.txt"
    path.write_text("a\nb\nc\nd\ne\n")
    for labels in (path, str(path), list("abcde")):
        other = Engine(MADE.bytes(), labels=labels)
        assert other.explain(PHOTOS[0], "d").target == 3
    for wrong in (list("abcdef"), list("abcd")):
        with pytest.raises(InputError, match=r"labels: \d names for 5 classes"):
            Engine(MADE.bytes(), labels=wrong)
    unnamed = Engine(MADE.but(labels=None).bytes()).explain(PHOTOS[0], 1)
    assert (unnamed.label, unnamed.synset) == (None, None)
    assert unnamed.title.startswith("class 1 (")


def test_without_contract(engine):
    plain = MADE.but(with_contract=False)
    with pytest.raises(ContractError, match=r"onnxcam export.*contract="):
        Engine(plain.bytes())
    told = Engine(plain.bytes(), contract=plain.contract())
    np.testing.assert_array_equal(
        told.explain(PHOTOS[0]).heatmap, engine.explain(PHOTOS[0]).heatmap
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"picture"', '"image"', "no input 'image'; it has picture, cam_target"),
        ('"scores"', '"logits_"', "no output 'logits_'"),
        ('"gradient"', '"weights"', "no output 'cam_weights'"),
        ('"float32"', '"uint8"', "is uint8, the graph says float32"),
        ('"version": 1', '"version": 9', "expected 1, found 9"),
        ('"layer"', '"lair"', "'layer' is missing"),
        ("{", "[", "not JSON"),
    ],
)
def test_contract_that_contradicts_the_graph(old, new, message):
    model = MADE.model()
    model.metadata_props[0].value = model.metadata_props[0].value.replace(old, new)
    with pytest.raises(ContractError, match=message):
        Engine(model.SerializeToString())


def test_outputs_without_a_batch_axis_are_kept_whole():
    from onnx import TensorProto, helper

    model = MADE.model()
    model.graph.node.append(helper.make_node("ReduceSum", ["scores"], ["sum"], keepdims=0))
    model.graph.output.append(helper.make_tensor_value_info("sum", TensorProto.FLOAT, []))
    a, b = Engine(model.SerializeToString()).explain(PHOTOS[:2])
    assert a.outputs["sum"] == pytest.approx(a.scores.sum() + b.scores.sum(), rel=1e-4)
    np.testing.assert_array_equal(b.outputs["scores"], b.scores)


def test_a_second_input_is_asked_for():
    from onnx import TensorProto, helper

    model = MADE.model()
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))
    engine = Engine(model.SerializeToString())
    with pytest.raises(InputError, match="further inputs: give mask in inputs="):
        engine.explain(PHOTOS[0])
    with pytest.raises(InputError, match="no further input 'other'; the model's are mask"):
        engine.explain(PHOTOS[0], inputs={"mask": np.zeros(1, np.float32), "other": 1})
    with pytest.raises(InputError, match=r"'mask': expected float32 \[1\], got float64"):
        engine.explain(PHOTOS[0], inputs={"mask": np.zeros(1)})
    result = engine.explain(PHOTOS[0], inputs={"mask": np.zeros(1, np.float32)})
    assert result.map.any()


def test_an_output_with_spatial_axes_is_refused():
    contract = MADE.contract()
    wrong = type(contract)(
        layers=contract.layers,
        output=Output("cam_activation", "raw"),
        picture=contract.picture,
    )
    with pytest.raises(ModelError, match="one score per class"):
        Engine(MADE.bytes(), contract=wrong).explain(PHOTOS[0])


def test_explaining_prints_nothing(engine, capfd):
    engine.explain(PHOTOS).clear()
    assert capfd.readouterr() == ("", "")
