from __future__ import annotations

import json

import pytest

from onnxcam.contract import Preprocessing
from onnxcam.errors import PreprocessError
from onnxcam.presets import PRESETS, parse_preprocess


def test_none():
    assert parse_preprocess(None) is None
    assert parse_preprocess("none", (3, 3)) is None


@pytest.mark.parametrize(("size", "shorter"), [(None, 256), ((224, 224), 256), ((299, 299), 342)])
def test_imagenet_scales_its_crop_in_proportion(size, shorter):
    found = parse_preprocess("imagenet", size)
    assert found.resize.shorter_side == shorter
    assert found.size == (size or (224, 224))


@pytest.mark.parametrize("name", ["caffe", "tf", "unit"])
def test_a_size_is_needed(name):
    with pytest.raises(PreprocessError, match="size"):
        parse_preprocess(name)


@pytest.mark.parametrize("name", PRESETS)
def test_one_channel(name):
    if name in ("tf", "unit"):
        assert parse_preprocess(name, (28, 28), channels=1).color == "GRAY"
    else:
        with pytest.raises(PreprocessError, match="1 channel"):
            parse_preprocess(name, (28, 28), channels=1)


def test_json_file(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"size": [10, 20], "color": "BGR", "scale": 0.5, "mean": 3}))
    found = parse_preprocess(path)
    assert (found.size, found.color, found.scale, found.mean) == ((10, 20), "BGR", 0.5, (3.0,))
    assert parse_preprocess(str(path), (10, 20)) == found
    assert parse_preprocess(found) is found
    with pytest.raises(PreprocessError, match="10x20 contradicts the model's input 10x10"):
        parse_preprocess(path, (10, 10))


def test_mapping_takes_the_models_size():
    assert parse_preprocess({"scale": 2}, (5, 6)) == Preprocessing(size=(5, 6), scale=2.0)
    with pytest.raises(PreprocessError, match="size"):
        parse_preprocess({"scale": 2})


def test_channels_contradict():
    with pytest.raises(PreprocessError, match=r"'GRAY' has 1 channels.*has 3"):
        parse_preprocess({"color": "GRAY", "size": [5, 5]}, channels=3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "JSON object"),
        ('{"size": [1, 2], "sizes": 3}', "unknown key 'sizes'"),
        ('{"size": "224x224"}', "size"),
        ('{"size": [1, 2], "std": [0]}', "greater than zero"),
        ('{"size": [1.5, 2]}', "whole number"),
    ],
)
def test_bad_json(tmp_path, text, message):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(PreprocessError, match=message):
        parse_preprocess(path)


def test_neither_preset_nor_file():
    with pytest.raises(PreprocessError, match="'imagnet' is neither a preset \\(imagenet, "):
        parse_preprocess("imagnet")
    with pytest.raises(PreprocessError, match="expected a preset"):
        parse_preprocess(3)
