from __future__ import annotations

import json

import pytest

from onnxcam.contract import Contract, Layer, Output, Picture, Preprocessing, Resize, output_name
from onnxcam.errors import ContractError, PreprocessError

FULL = Contract(
    layers=(Layer("a/b:0", "layer4"), Layer("c")),
    output=Output("y", "logits", "sigmoid", 0.25, -128),
    picture=Picture(
        "x",
        "float32",
        "NHWC",
        Preprocessing(
            size=(8, 9),
            color="BGR",
            scale=0.5,
            mean=(1.0, 2.0, 3.0),
            std=(4.0,),
            resize=Resize("crop", 12, "bicubic", False),
        ),
    ),
    emit="weights",
    score="probability",
    labels=("chat", "chien, Köter", "猫"),
    producer={"onnxcam": "0.1.0"},
)
BARE = Contract((Layer("a"),), Output("y", "raw"), Picture("x", "uint8", "NCHW"))


@pytest.mark.parametrize("contract", [FULL, BARE])
def test_round_trip(contract):
    assert Contract.loads(contract.dumps()) == contract


def test_a_plain_output_says_nothing_of_quantisation():
    assert set(json.loads(BARE.dumps())["output"]) == {"name", "kind", "activation"}


def test_the_first_of_several_layers_stands_alone_too():
    document = json.loads(FULL.dumps())
    assert document["layer"] == {"tensor": "a/b:0", "name": "layer4"}
    assert document["layers"][0] == document["layer"]
    assert FULL.layer.title == "layer4"
    assert BARE.layer.title == "a"
    assert [output_name("cam_gradient", i) for i in range(2)] == ["cam_gradient", "cam_gradient_1"]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["version"], 2, "expected 1, found 2"),
        (["emit"], "map", "emit: expected one of gradient, weights, heatmap"),
        (["score"], "loss", "score"),
        (["output", "kind"], "scores", "output.kind"),
        (["output", "activation"], "relu", "output.activation"),
        (["output", "scale"], 0, "output.scale"),
        (["output", "scale"], float("nan"), "output.scale"),
        (["output", "scale"], "1", "output.scale"),
        (["output", "zero_point"], 0.5, "output.zero_point"),
        (["output", "zero_point"], True, "output.zero_point"),
        (["input", "layout"], "HWC", "input.layout"),
        (["input", "preprocess", "color"], "RGBA", "color"),
        (["input", "preprocess", "size"], [0, 3], "whole number greater than zero"),
        (["input", "preprocess", "mean"], [1, 2], "expected 1 or 3 numbers"),
        (["input", "preprocess", "resize", "shorter_side"], 8, "smaller than the crop 8x9"),
        (["labels"], [1, 2], "list of strings"),
        (["layers"], [], "at least one layer"),
        (["layers", 0, "tensor"], 3, "expected a string, got 3"),
        (["layers", 1, "name"], ["a"], "expected a string"),
        (["output", "name"], None, "expected a string"),
        (["input"], "x", "malformed"),
        (["input", "dtype"], 32, "expected a string"),
        (["input", "preprocess", "scale"], float("nan"), "finite"),
        (["input", "preprocess", "mean", 1], float("inf"), "finite"),
        (["producer"], [], "malformed"),
    ],
)
def test_malformed(path, value, message):
    document = json.loads(FULL.dumps())
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(ContractError, match=message):
        Contract.loads(json.dumps(document))


@pytest.mark.parametrize("key", ["emit", "layer", "score", "output", "input"])
def test_missing(key):
    document = json.loads(BARE.dumps())
    del document[key]
    with pytest.raises(ContractError, match=f"'{key}' is missing"):
        Contract.loads(json.dumps(document))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3"])
def test_no_document(text):
    with pytest.raises(ContractError, match="JSON"):
        Contract.loads(text)


@pytest.mark.parametrize(
    "resize", [{"mode": "fit"}, {"mode": "crop"}, {"shorter_side": 3}, {"antialias": 1}]
)
def test_resize(resize):
    with pytest.raises(PreprocessError):
        Resize(**resize)
