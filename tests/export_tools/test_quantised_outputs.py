"""Scored outputs of integers: the contract says what they stand for, the engine undoes it."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.helper as oh
import pytest
from onnx.numpy_helper import from_array

from helpers_onnx import small_network, torch_small_network
from onnxcam import Engine
from onnxcam.errors import ExportError
from onnxcam_export import from_onnx

PICTURE = np.random.default_rng(5).integers(0, 256, (16, 16, 3), np.uint8)


def quantised(scale, zero_point, dtype, reshape=False) -> onnx.ModelProto:
    """The small network with Softmax and QuantizeLinear at its end."""
    plain = small_network(final="Softmax")
    graph = plain.graph
    zero = np.array(zero_point, dtype)
    graph.initializer.append(from_array(np.asarray(scale, np.float32), "scale"))
    graph.initializer.append(from_array(np.broadcast_to(zero, np.shape(scale)), "zero"))
    last = "reshaped" if reshape else "integers"
    graph.node.append(oh.make_node("QuantizeLinear", ["scores", "scale", "zero"], ["integers"]))
    if reshape:
        graph.initializer.append(from_array(np.array([-1, 5]), "shape"))
        graph.node.append(oh.make_node("Reshape", ["integers", "shape"], [last]))
    element = oh.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph.output[0].CopyFrom(oh.make_tensor_value_info(last, element, ["batch", 5]))
    return plain


@pytest.mark.parametrize(
    ("scale", "zero_point", "dtype", "reshape"),
    [(1 / 256, 0, np.uint8, True), (1 / 255, -128, np.int8, False), (0.01, 7, np.uint8, False)],
)
@pytest.mark.parametrize("score", ["logit", "probability"])
def test_probabilities_are_probabilities(scale, zero_point, dtype, reshape, score):
    import torch

    plain = quantised(scale, zero_point, dtype, reshape)
    model = from_onnx(plain, preprocess="unit", score=score)
    result = Engine(model.SerializeToString()).explain(PICTURE)
    tensor = (PICTURE.transpose(2, 0, 1)[None] / 255).astype(np.float32)
    _, logits = torch_small_network(plain)(tensor)
    expected = torch.softmax(logits, 1).detach().numpy()[0]
    np.testing.assert_allclose(result.probabilities, expected, atol=scale * 0.501)
    assert result.target == expected.argmax()
    assert result.diagnosis.reason is None


def test_a_scale_per_class_is_refused():
    with pytest.raises(ExportError, match="not one constant number"):
        from_onnx(quantised([0.01, 0.02, 0.01, 0.01, 0.01], 0, np.uint8))
