"""Explaining models built by hand, for tests of the engine that must not need the exporter.

The network is Conv 3x3 -> Relu -> Flatten -> Gemm: small enough that its gradient is known (row
`target` of the Gemm's weight, laid out on the layer's grid, differs at every position).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxcam.contract import (
    METADATA_KEY,
    Contract,
    Layer,
    Output,
    Picture,
    Preprocessing,
    Resize,
)

SIDE, CHANNELS, CLASSES = 6, 4, 5
STRETCH = Preprocessing(size=(SIDE, SIDE), scale=1 / 255, resize=Resize(filter="bilinear"))
LABELS = ("tabby cat", "n02099601 golden retriever", "crane", "crane", "tench, Tinca tinca")


@dataclass(frozen=True)
class HandMade:
    """A model and what it is made of; `model()` builds it."""

    batch: int | str | None = "N"
    targets: str = "one"  # one [N], several [N, K], none
    emit: str = "gradient"
    kind: str = "logits"  # softmax appends it
    score: str = "logit"
    activation: str | None = "softmax"
    output_4d: bool = False
    dtype: str = "float32"
    layout: str = "NCHW"
    preprocess: Preprocessing | None = STRETCH
    labels: tuple[str, ...] | None = LABELS
    with_contract: bool = True
    weight_scale: float = 1.0
    seed: int = 35  # with it every class has positive and negative map values
    weights: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        random = np.random.default_rng(self.seed)
        self.weights.update(
            kernel=random.normal(size=(CHANNELS, 3, 3, 3)).astype(np.float32),
            bias=random.normal(size=CHANNELS).astype(np.float32),
            dense=random.normal(size=(CLASSES, CHANNELS * SIDE * SIDE)).astype(np.float32)
            * np.float32(self.weight_scale),
        )

    def but(self, **changes: Any) -> HandMade:
        return replace(self, weights={}, **changes)

    def contract(self) -> Contract:
        return Contract(
            layers=(Layer("relu", "features.relu"),),
            output=Output("scores", self.kind, self.activation),
            picture=Picture("picture", self.dtype, self.layout, self.preprocess),
            emit=self.emit,
            score=self.score,
            labels=self.labels,
        )

    def bytes(self) -> bytes:
        return self.model().SerializeToString()

    def model(self) -> onnx.ModelProto:
        nodes: list[onnx.NodeProto] = []

        def add(op: str, *inputs: str, output: str, **attributes: Any) -> str:
            nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
            return output

        constants = {
            "kernel": self.weights["kernel"],
            "bias": self.weights["bias"],
            "dense": self.weights["dense"],
            "minus_one": np.array(-1),
            "area": np.array([2, 3]),
            "two": np.array([2]),
            "grid": np.array([-1, CHANNELS, SIDE, SIDE]),
            "grid_k": np.array([0, 0, CHANNELS, SIDE, SIDE]),
            "four": np.array([0, 0, 1, 1]),
        }
        picture = "picture"
        if self.dtype != "float32":
            picture = add("Cast", picture, output="as_float", to=TensorProto.FLOAT)
        if self.layout == "NHWC":
            picture = add("Transpose", picture, output="channels_first", perm=[0, 3, 1, 2])
        add("Conv", picture, "kernel", "bias", output="conv", pads=[1, 1, 1, 1])
        add("Relu", "conv", output="cam_activation")
        add("Flatten", "cam_activation", output="flat")
        logits = add("Gemm", "flat", "dense", output="logits", transB=1)
        best = add("ArgMax", logits, output="best", axis=1, keepdims=0)
        target = best
        if self.targets != "none":
            if self.targets == "several":
                best = add("ArgMax", logits, output="best_k", axis=1, keepdims=1)
            unset = add("Equal", "cam_target", "minus_one", output="unset")
            target = add("Where", unset, best, "cam_target", output="target")
        row = add("Gather", "dense", target, output="row")
        if self.score == "probability":
            # d p_t / d logits = p_t (onehot_t - p), times the Gemm's weight
            p = add("Softmax", logits, output="p", axis=1)
            chance = add(
                "GatherElements",
                p,
                add("Unsqueeze", target, "one", output="t"),
                output="chance",
                axis=1,
            )
            constants["one"] = np.array([1])
            mean = add("MatMul", p, "dense", output="mean_row")
            row = add("Mul", chance, add("Sub", row, mean, output="difference"), output="row_p")
        shape = "grid_k" if self.targets == "several" else "grid"
        add("Reshape", row, shape, output="cam_gradient")
        scores = logits
        if self.kind == "softmax":
            scores = add("Softmax", logits, output="probabilities", axis=1)
        elif self.kind == "sigmoid":
            scores = add("Sigmoid", logits, output="probabilities")
        if self.output_4d:
            scores = add("Reshape", scores, "deep", output="scores_4d")
            constants["deep"] = np.array([-1, CLASSES, 1, 1])
        add("Identity", scores, output="scores")
        if self.emit == "weights":
            add("ReduceMean", "cam_gradient", "area", output="cam_weights", keepdims=0)
        if self.emit == "heatmap":
            w = add("ReduceMean", "cam_gradient", "area", output="w", keepdims=1)
            summed = add(
                "ReduceSum",
                add("Mul", w, "cam_activation", output="weighted"),
                "channel_axis",
                output="summed",
                keepdims=0,
            )
            constants["channel_axis"] = np.array([1])
            positive = add("Relu", summed, output="positive")
            add(
                "Div",
                positive,
                add("ReduceMax", positive, "hw", output="highest", keepdims=1),
                output="cam_heatmap",
            )
            constants["hw"] = np.array([1, 2])
        return self._wrap(nodes, constants)

    def _wrap(self, nodes: list[Any], constants: dict[str, Any]) -> onnx.ModelProto:
        n = self.batch
        side = (3, SIDE, SIDE) if self.layout == "NCHW" else (SIDE, SIDE, 3)
        element = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        inputs = [helper.make_tensor_value_info("picture", element, [n, *side])]
        if self.targets != "none":
            shape = [n] if self.targets == "one" else [n, "K"]
            inputs.append(helper.make_tensor_value_info("cam_target", TensorProto.INT64, shape))
        k = ["K"] if self.targets == "several" else []
        scores = [n, CLASSES, 1, 1] if self.output_4d else [n, CLASSES]
        grid = [CHANNELS, SIDE, SIDE]
        shapes: dict[str, list[Any]] = {"scores": scores}
        if self.emit != "heatmap":
            shapes["cam_activation"] = [n, *grid]
        shapes |= {
            "gradient": {"cam_gradient": [n, *k, *grid]},
            "weights": {"cam_weights": [n, *k, CHANNELS]},
            "heatmap": {"cam_heatmap": [n, SIDE, SIDE]},
        }[self.emit]
        outputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in shapes.items()
        ]
        used = {name for node in nodes for name in node.input}
        graph = helper.make_graph(
            nodes,
            "hand_made",
            inputs,
            outputs,
            [numpy_helper.from_array(v, k) for k, v in constants.items() if k in used],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        if self.with_contract:
            helper.set_model_props(model, {METADATA_KEY: self.contract().dumps()})
        onnx.checker.check_model(model)
        return model

    def forward(self, tensor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Activation [N, C, h, w] and logits [N, classes] of an NCHW tensor, float64."""
        x = np.pad(tensor.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
        conv = np.einsum("nchwij,kcij->nkhw", windows, self.weights["kernel"])
        activation = np.maximum(conv + self.weights["bias"][:, None, None], 0)
        return activation, activation.reshape(len(x), -1) @ self.weights["dense"].T.astype(float)

    def gradient(self, target: int) -> np.ndarray:
        """d logit / d activation, [C, h, w]: a row of the dense layer."""
        return self.weights["dense"][target].reshape(CHANNELS, SIDE, SIDE).astype(np.float64)
