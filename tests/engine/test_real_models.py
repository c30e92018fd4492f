"""A trained network and photographs that nobody here made.

The explaining file is built by hand: SqueezeNet's logit is the mean of its class map after a
ReLU, so the gradient at the layer before is the class's filter where the map is positive.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxcam import Engine
from onnxcam.contract import Contract, Layer, Output, Picture, Preprocessing
from onnxcam.labels import read_labels

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.exists(), reason="../shared/data is not here")
EXPECTED = {
    "bird.jpg": "chickadee",
    "hot_dog.jpg": "hotdog",
    "dragonfly.jpg": "dragonfly",
    "parrot_384.jpg": "macaw",
    "coffee.jpg": "espresso",
    "cat_720p.jpg": "Egyptian cat",
}


@pytest.fixture(scope="module")
def engine():
    model = onnx.load(DATA / "models" / "squeezenet1.1_fp32_logits.onnx")
    graph = model.graph
    filters = next(node for node in graph.node if node.output[0] == "conv10_1").input[1]

    def add(op, *inputs, output, **attributes):
        graph.node.append(helper.make_node(op, list(inputs), [output], **attributes))

    constants = {"minus_one": np.array(-1), "zero": np.float32(0), "area": np.float32(14 * 14)}
    for name, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    add("ArgMax", "logits", output="best", axis=1, keepdims=0)
    add("Equal", "cam_target", "minus_one", output="unset")
    add("Where", "unset", "best", "cam_target", output="target")
    add("Greater", "conv10_1", "zero", output="alive")
    add("Cast", "alive", output="mask", to=TensorProto.FLOAT)
    add("Gather", "mask", "target", output="class_mask", axis=1)
    add("Gather", filters, "target", output="class_filter", axis=0)
    add("Div", "class_filter", "area", output="slope")
    add("Mul", "slope", "class_mask", output="cam_gradient")
    add("Identity", "fire9/concat_1", output="cam_activation")
    graph.input.append(helper.make_tensor_value_info("cam_target", TensorProto.INT64, [1]))
    for name in ("cam_activation", "cam_gradient"):
        shape = [1, 512, 14, 14]
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    contract = Contract(
        layers=(Layer("fire9/concat_1"),),
        output=Output("logits", "logits", "softmax"),
        picture=Picture(
            "data_0",
            "float32",
            "NCHW",
            Preprocessing(size=(224, 224), color="BGR", mean=(104, 117, 123)),
        ),
        labels=read_labels(DATA / "labels" / "imagenet1k.txt"),
    )
    helper.set_model_props(model, {"onnxcam": contract.dumps()})
    return Engine(model.SerializeToString(), threads=1)


@pytest.mark.parametrize("name", EXPECTED)
def test_class_and_peak(engine, name):
    result = engine.explain(DATA / "photos" / name)
    assert result.label == EXPECTED[name]
    boxes = json.loads((DATA / "boxes.json").read_text())[name]
    y, x = np.unravel_index(result.heatmap.argmax(), result.heatmap.shape)
    left, top, right, bottom = boxes[0]["box"]
    assert left <= x <= right
    assert top <= y <= bottom
