"""Explained layers of an exported network, run in onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from sweep_oracle import Autograd

from onnxcam_export.assemble import build
from onnxcam_export.gradient.walk import path_between
from onnxcam_export.layers import Candidate, Layers
from onnxcam_export.loading import prepare
from onnxcam_export.score import find_score


class Explained:
    """An explaining model of one layer and score."""

    def __init__(self, source: Any, layer: str | None, score: str) -> None:
        has_end = any(n.op_type in ("Softmax", "Sigmoid") for n in source.model.graph.node[-3:])
        activation = "softmax" if score == "probability" and not has_end else None
        built = build(source, layer=layer, score=score, activation=activation)
        self.candidate = built.layer
        self.tensor = str(built.layer.value.name)
        self.name = built.layer.name
        self.shape = [str(size) for size in built.layer.shape]
        self.nodes = len(source.model.graph.node)
        self._session = open_session(built.model)

    def run(self, pictures: np.ndarray, targets: np.ndarray) -> list[np.ndarray]:
        """Activation and gradient, channels first."""
        name = next(i.name for i in self._session.get_inputs() if i.name != "cam_target")
        feed = {name: pictures, "cam_target": targets}
        return list(self._session.run(["cam_activation", "cam_gradient"], feed))

    def raw(self, source: Any, pictures: np.ndarray) -> np.ndarray:
        """The layer's tensor as the plain model computes it, in its own layout."""
        return tensors(source, [self.tensor], pictures)[0]

    def exposed(self, array: np.ndarray) -> np.ndarray:
        """An array of the tensor's layout, channels first."""
        array = np.moveaxis(array, self.candidate.channel_axis, 1)
        tokens = self.candidate.tokens
        if tokens is not None:
            behind = tokens.prefix + int(np.prod(tokens.grid))
            array = array[:, :, tokens.prefix : behind].reshape(*array.shape[:2], *tokens.grid)
        return array


def layer_near_a_third(
    source: Any, autograd: Autograd, pictures: np.ndarray, near: int
) -> tuple[Candidate, Any]:
    """The layer nearest to one third of the depth whose values autograd's record knows."""
    model = prepare(source.model)
    candidates = Layers(model.graph, find_score(model.graph, "logit").value).candidates()
    third = len(candidates) // 3
    nearest = sorted(candidates, key=lambda c: abs(candidates.index(c) - third))[:near]
    values = tensors(source, [str(c.value.name) for c in nearest], pictures)
    for candidate, value in zip(nearest, values, strict=True):
        found = autograd.find(value)
        if found:
            return candidate, found
    names = ", ".join(str(c.value.name) for c in nearest[:3])
    raise LookupError(f"no torch tensor has the values of {names}, ...")


def operators_behind(source: Any, layer: str) -> list[str]:
    """The kinds of operators between a layer and the score: the rules that its gradient needs."""
    model = prepare(source.model)
    score = find_score(model.graph, "logit").value
    start = next(v for node in model.graph for v in node.outputs if v.name == layer)
    return sorted({node.op_type for node in path_between(list(model.graph), start, score)})


def tensors(source: Any, names: list[str], pictures: np.ndarray) -> list[np.ndarray]:
    """Inner tensors of the plain model."""
    model = prepare(source.model)
    by_name = {str(v.name): v for node in model.graph for v in node.outputs}
    wanted = [by_name[name] for name in names]
    model.graph.outputs.extend(v for v in wanted if v not in model.graph.outputs)
    model.ir_version = 10
    session = open_session(ir.to_proto(model))
    return list(session.run(names, {session.get_inputs()[0].name: pictures}))


def open_session(model: Any) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
