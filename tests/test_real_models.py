"""Real pretrained models on real photographs: what they see, and where.

The expected numbers do not come from the project: top-1 classes from an independent
preprocessing (Pillow and numpy) with the plain model, boxes drawn by eye, probabilities
published with the model.
"""

from __future__ import annotations

import json

import numpy as np
import onnxruntime as ort
import pytest
from PIL import Image

from helpers_onnx import SHARED_DATA, needs_shared_data
from onnxcam import Engine
from onnxcam_export import from_onnx

pytestmark = needs_shared_data

SQUEEZENET = {
    "file": "squeezenet1.1_fp32_logits.onnx",
    "labels": "imagenet1k.txt",
    "preprocess": {"color": "BGR", "mean": [104, 117, 123]},
    "least_hits": 12,
}
MOBILENET = {
    "file": "mobilenet_v1_0.5_160_fp32_logits.onnx",
    "labels": "imagenet1001_background_first.txt",
    "preprocess": {"color": "RGB", "mean": [128], "std": [128]},
    "least_hits": 9,
}
# What a person says is in the picture, in ImageNet's words; the classifiers may err elsewhere.
SEEN = {
    "bird.jpg": "chickadee",
    "hot_dog.jpg": "hotdog",
    "dog_train_0.jpg": "golden retriever",
    "parrot_384.jpg": "macaw",
    "chelsea.png": "Egyptian cat",
    "coffee.jpg": "espresso",
    "sunflower.jpg": "daisy",
    "cat_720p.jpg": "Egyptian cat",
}


def photos():
    boxes = json.loads((SHARED_DATA / "boxes.json").read_text())
    return {name: found for name, found in boxes.items() if not name.startswith("_")}


def resized(path, size):
    """Along the rows first, then the columns: Pillow 13 takes the order that is faster."""
    picture = Image.open(path).convert("RGB")
    wide = picture.resize((size, picture.height), Image.Resampling.BILINEAR)
    return wide.resize((size, size), Image.Resampling.BILINEAR)


def independent_input(path, model, size):
    picture = resized(path, size)
    pixels = np.asarray(picture).astype(np.float32)
    if model["preprocess"]["color"] == "BGR":
        pixels = pixels[:, :, ::-1]
    pixels = (pixels - model["preprocess"]["mean"]) / model["preprocess"].get("std", [1])
    return pixels.transpose(2, 0, 1)[None].astype(np.float32)


@pytest.mark.parametrize("model", [SQUEEZENET, MOBILENET], ids=["squeezenet", "mobilenet"])
def test_sees_what_is_there_and_where(model):
    source = SHARED_DATA / "models" / model["file"]
    labels = SHARED_DATA / "labels" / model["labels"]
    explaining = from_onnx(source, preprocess=model["preprocess"], labels=labels)
    engine = Engine(explaining.SerializeToString())
    plain = ort.InferenceSession(str(source), providers=["CPUExecutionProvider"])
    picture_input = plain.get_inputs()[0]
    hits = []
    for name, boxes in photos().items():
        path = SHARED_DATA / "photos" / name
        result = engine.explain(path)
        tensor = independent_input(path, model, picture_input.shape[2])
        expected = plain.run(None, {picture_input.name: tensor})[0][0]
        assert result.target == expected.argmax(), name
        np.testing.assert_allclose(result.score, expected.max(), rtol=1e-3)
        if name in SEEN:
            assert result.label.split(",")[0] == SEEN[name]
        assert result.heatmap.shape == Image.open(path).size[::-1]
        y, x = np.unravel_index(result.heatmap.argmax(), result.heatmap.shape)
        hits.append(
            any(x0 <= x <= x1 and y0 <= y <= y1 for x0, y0, x1, y1 in (b["box"] for b in boxes))
        )
    assert len(hits) == 12
    assert sum(hits) >= model["least_hits"]


def test_integers_in_and_out():
    """MobileNet v1 0.25, quantised: uint8 pixels, uint8 probabilities in steps of 1/256."""
    source = SHARED_DATA / "models" / "mobilenet_v1_0.25_128_quant.qdq.onnx"
    labels = SHARED_DATA / "labels" / "imagenet1001_background_first.txt"
    explaining = from_onnx(source, preprocess={"color": "RGB"}, labels=labels)
    engine = Engine(explaining.SerializeToString())
    plain = ort.InferenceSession(str(source), providers=["CPUExecutionProvider"])
    right = 0
    for name in photos():
        path = SHARED_DATA / "photos" / name
        result = engine.explain(path)
        picture = resized(path, 128)
        counts = plain.run(None, {"input": np.asarray(picture)[None]})[0].reshape(-1)
        assert counts.dtype == np.uint8
        assert result.target == counts.argmax(), name
        # onnxruntime fuses fewer of the integer operators where their values are read as floats,
        # and rounds otherwise there.
        np.testing.assert_allclose(result.probability, counts.max() / 256, atol=4 / 256)
        assert 0.8 < result.probabilities.sum() <= 1.01
        assert result.diagnosis.reason is None
        right += name in SEEN and result.label.split(",")[0] == SEEN[name]
    assert right >= 5  # of 8


def test_published_probabilities_of_the_half_precision_model():
    """Pixels 0..255 in BGR order, as the model's publisher ran it."""
    preprocess = {"color": "BGR", "resize": {"mode": "stretch"}}
    explaining = from_onnx(SHARED_DATA / "models" / "SqueezeNet_fp16.onnx", preprocess=preprocess)
    result = Engine(explaining.SerializeToString()).explain(SHARED_DATA / "photos" / "fish.png")
    text = (SHARED_DATA / "winml_Squeezenet_fp16_fish_input_CPU.csv").read_text()
    rows = [line.split(",") for line in text.splitlines()]
    published = np.array([float(row[-1]) for row in rows[1:] if row[-1].strip()])
    actual = next(iter(result.outputs.values())).reshape(-1)
    assert len(published) == len(actual) == 1000
    assert actual.argmax() == published.argmax()
    np.testing.assert_allclose(actual, published, atol=0.02)


def test_a_channels_last_model():
    """ResNet-8 for CIFAR-10: NHWC input, softmax at its end, dynamic batch."""
    source = SHARED_DATA / "models" / "mlperftiny_resnet8_cifar10.onnx"
    explaining = from_onnx(source, preprocess={"color": "RGB"})
    engine = Engine(explaining.SerializeToString())
    results = engine.explain(
        [SHARED_DATA / "photos" / "bird.jpg", SHARED_DATA / "photos" / "cat_720p.jpg"]
    )
    assert [result.target for result in results] == [2, 3]  # bird, cat
    for result in results:
        assert result.map.shape == (8, 8)
        assert result.map.max() == 1.0
