"""Explaining files of every kind that is exported, for benchmarks/older_runtimes.py."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper as oh
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from onnxruntime.transformers.float16 import convert_float_to_float16

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from helpers_tokens import SmallViT, older_export  # noqa: E402
from helpers_torchvision import torchvision  # noqa: E402
from onnxcam_export import from_onnx, from_torch  # noqa: E402
from onnxcam_export.assemble import EMITTED  # noqa: E402

SIDE = 64
CLASSES = 10


def kinds(folder: Path) -> Iterator[tuple[str, Callable[[], onnx.ModelProto]]]:
    """What each file is, and a function that makes it; `folder` is for intermediate files."""
    torch.manual_seed(0)
    models = torchvision.models
    mobile = normalised(models.mobilenet_v3_small(num_classes=CLASSES))
    residual = normalised(models.resnet.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1], CLASSES))
    picture = torch.rand(1, 3, SIDE, SIDE)

    def of(module: Any, layer: str | None = None, **options: Any) -> Callable[[], onnx.ModelProto]:
        return lambda: from_torch(module, picture, layer, preprocess="imagenet", **options)

    for opset in (18, 17, 13, 21):
        yield f"MobileNetV3-small, gradient, opset {opset}", of(mobile, opset=opset)
    yield "the same, weights", of(mobile, emit="weights")
    if "heatmap" in EMITTED:
        yield "the same, heatmap", of(mobile, emit="heatmap")
    yield "the same, two targets an image", of(mobile, targets=2)
    yield "the same, two layers", of(mobile, ["features.8", "features.12"])
    yield "ResNet-10, before its overlapping pool", of(residual, "relu")
    yield "the same, opset 16", of(residual, "relu", opset=16)
    yield "ResNet-10, half precision", lambda: from_onnx(half(residual, picture), size=(SIDE, SIDE))
    yield "CNN, QDQ, opset 13", lambda: from_onnx(quantised(folder))
    vit = SmallViT()
    file = older_export(vit, torch.zeros(1, 3, 16, 24))
    yield "ViT, opset 18", lambda: from_onnx(file)
    yield "ViT, opset 13", lambda: from_onnx(file, opset=13)
    yield "ViT, likeness to a vector", lambda: from_onnx(file, score_of="cosine")


def normalised(module: Any) -> Any:
    """With statistics in its BatchNormalizations: values of random weights would vanish else."""
    module.train()
    with torch.no_grad():
        for _ in range(20):
            module(torch.randn(8, 3, SIDE, SIDE))
    return module.eval()


def half(module: Any, picture: torch.Tensor) -> onnx.ModelProto:
    """As onnxruntime's converter makes it, opset 17."""
    model: onnx.ModelProto = older_export(module, picture, dynamic=False)
    model.opset_import[0].version = 17  # of the operators of a ResNet none changed at 18
    onnx.checker.check_model(model, full_check=True)
    return convert_float_to_float16(model)


def quantised(folder: Path) -> Path:
    """Two convolutions and a dense layer, in 8 bits by onnxruntime's quantiser."""
    rng = np.random.default_rng(5)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        values = (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        return onnx.numpy_helper.from_array(values, name)

    nodes = [
        oh.make_node("Conv", ["x", "w1"], ["c1"], "conv1", pads=[1] * 4),
        oh.make_node("Relu", ["c1"], ["r1"], "relu1"),
        oh.make_node("Conv", ["r1", "w2"], ["c2"], "conv2", pads=[1] * 4),
        oh.make_node("Relu", ["c2"], ["r2"], "relu2"),
        oh.make_node("GlobalAveragePool", ["r2"], ["mean"], "mean"),
        oh.make_node("Flatten", ["mean"], ["flat"], "flat"),
        oh.make_node("Gemm", ["flat", "w3"], ["y"], "dense", transB=1),
    ]
    graph = oh.make_graph(
        nodes,
        "cnn",
        [oh.make_tensor_value_info("x", 1, ["N", 3, SIDE, SIDE])],
        [oh.make_tensor_value_info("y", 1, ["N", CLASSES])],
        [weight("w1", 8, 3, 3, 3), weight("w2", 16, 8, 3, 3), weight("w3", CLASSES, 16)],
    )
    model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", 13)], ir_version=7)
    onnx.save(model, folder / "cnn.onnx")

    class Pictures(CalibrationDataReader):
        rest = iter(rng.random((4, 1, 3, SIDE, SIDE)).astype(np.float32))

        def get_next(self) -> dict[str, np.ndarray] | None:
            picture = next(self.rest, None)
            return None if picture is None else {"x": picture}

    quantize_static(
        folder / "cnn.onnx", folder / "qdq.onnx", Pictures(), quant_format=QuantFormat.QDQ
    )
    return folder / "qdq.onnx"
