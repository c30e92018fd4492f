"""Pictures as bytes: the normalisation in the graph is the engine's own, and the documented one."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import onnxcam_models
from helpers_onnx import SHARED_DATA, needs_shared_data, small_network
from onnxcam import Engine
from onnxcam.contract import Preprocessing, Resize
from onnxcam.errors import ExportError, PreprocessError
from onnxcam_export import from_onnx
from onnxcam_export.assemble import build
from onnxcam_export.sources import onnx_file
from onnxcam_export.verify import verify_each

RANDOM = np.random.default_rng(12)
PHOTO = RANDOM.integers(0, 256, (40, 36, 3), np.uint8)
BYTES = RANDOM.integers(0, 256, (2, 16, 16, 3), np.uint8)

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
# preprocessing -> what it makes of RGB pixels [..., 3], as its zoo's documentation has it
DOCUMENTED = {
    "imagenet": lambda x: (x / 255 - MEAN) / STD,
    "caffe": lambda x: x[..., ::-1] - [103.939, 116.779, 123.68],
    "tf": lambda x: x / 127.5 - 1,
    "unit": lambda x: x / 255,
}


def passing_on(dtype: int, layout: str, channels: int = 3) -> onnx.ModelProto:
    """The small network, and the picture as the network gets it as an output `seen`."""
    plain = small_network()
    if channels == 1:
        kernel = next(t for t in plain.graph.initializer if t.name == "w1")
        first = onnx.numpy_helper.to_array(kernel)[:, :1]
        kernel.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(first), "w1"))
    graph, helper = plain.graph, onnx.helper
    sides = [channels, 16, 16] if layout == "NCHW" else [16, 16, channels]
    graph.input[0].CopyFrom(helper.make_tensor_value_info("taken", dtype, ["batch", *sides]))
    as_float = helper.make_node("Cast", ["taken"], ["float"], to=onnx.TensorProto.FLOAT)
    perm = [0, 1, 2, 3] if layout == "NCHW" else [0, 3, 1, 2]
    graph.node.insert(0, helper.make_node("Transpose", ["float"], ["picture"], perm=perm))
    graph.node.insert(0, as_float)
    graph.node.append(helper.make_node("Identity", ["float"], ["seen"]))
    graph.output.append(helper.make_tensor_value_info("seen", 1, ["batch", *sides]))
    return plain


def seen_by(model, pixels):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {"taken": pixels}
    if len(session.get_inputs()) > 1:
        feed["cam_target"] = np.full(len(pixels), -1)
    return session.run(["seen"], feed)[0]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("preset", DOCUMENTED)
def test_presets(preset, layout):
    plain = passing_on(onnx.TensorProto.FLOAT, layout)
    model = from_onnx(plain, preprocess=preset, input="uint8")
    onnx.checker.check_model(model, full_check=True)
    expected = DOCUMENTED[preset](BYTES.astype(np.float64))
    if layout == "NCHW":
        expected = expected.transpose(0, 3, 1, 2)
    scale = max(1, np.abs(expected).max())
    np.testing.assert_allclose(seen_by(model, BYTES), expected, atol=1e-6 * scale)


SPECS = {
    "one mean, three deviations": {"mean": [1.5], "std": [2.0, 4.0, 8.0]},
    "three equal numbers": {"scale": 0.1, "mean": [3.0, 3.0, 3.0], "std": [2.0, 2.0, 2.0]},
    "nothing": {},
    "backwards": {"color": "BGR"},
    "backwards, one number": {"color": "BGR", "mean": [7.0]},
    "gray": {"color": "GRAY", "scale": 1 / 255, "mean": [0.5], "std": [0.25]},
}


@pytest.mark.parametrize("dtype", ["FLOAT", "FLOAT16", "DOUBLE", "UINT8", "INT8"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("spec", SPECS)
def test_as_the_engine_makes_the_tensor(spec, layout, dtype):
    """The same photograph through both files: the model gets the same numbers."""
    document = {**SPECS[spec], "resize": {"mode": "crop", "shorter_side": 20}}
    channels = 1 if document.get("color") == "GRAY" else 3
    plain = passing_on(getattr(onnx.TensorProto, dtype), layout, channels)
    floats, taken = (
        Engine(from_onnx(plain, preprocess=document, input=kind).SerializeToString())
        for kind in ("model", "uint8")
    )
    picture = taken.contract.picture
    assert (picture.dtype, picture.layout) == ("uint8", "NHWC")
    left = Preprocessing((16, 16), "GRAY" if channels == 1 else "RGB")
    assert picture.preprocess is not None
    assert picture.preprocess == Preprocessing(
        left.size, left.color, resize=Resize("crop", shorter_side=20)
    )
    one, other = floats.explain(PHOTO, 1), taken.explain(PHOTO, 1)
    expected, found = one.outputs["seen"], other.outputs["seen"]
    rounded = {"FLOAT16": 2e-3, "UINT8": 1e-7, "INT8": 1e-7}.get(dtype, 1e-6)
    np.testing.assert_allclose(found, expected, atol=rounded * max(1, np.abs(expected).max()))
    assert len(np.unique(expected)) > 1
    assert one.rectangle == other.rectangle


@pytest.mark.parametrize("emit", ["gradient", "weights", "heatmap"])
@pytest.mark.parametrize("batch", ["batch", 2])
def test_results_of_every_emit(emit, batch):
    plain = small_network(batch=batch)
    one, other = (
        Engine(
            from_onnx(plain, "pool1", preprocess="imagenet", emit=emit, input=kind)
            .SerializeToString()
        )
        for kind in ("model", "uint8")
    )  # fmt: skip
    photos = [PHOTO, PHOTO[:20], PHOTO[:, :30]]
    for expected, found in zip(one.explain(photos), other.explain(photos), strict=True):
        assert found.target == expected.target
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
        np.testing.assert_allclose(found.map, expected.map, atol=1e-5)


@pytest.mark.parametrize("name", onnxcam_models.names())
def test_shipped_networks(name):
    shipped = onnxcam_models.network(name)
    one, other = (
        Engine(
            from_onnx(
                shipped.path, shipped.layer, activation=shipped.activation, emit="heatmap",
                preprocess=shipped.preprocess, input=kind,
            ).SerializeToString()
        )
        for kind in ("model", "uint8")
    )  # fmt: skip
    expected, found = one.explain(PHOTO), other.explain(PHOTO)
    assert found.target == expected.target
    np.testing.assert_allclose(found.map, expected.map, atol=1e-5)


@needs_shared_data
@pytest.mark.parametrize(
    ("file", "preprocess", "tolerance"),
    [
        ("squeezenet1.1_fp32_logits.onnx", {"color": "BGR", "mean": [104, 117, 123]}, 1e-5),
        ("SqueezeNet_fp16.onnx", {"color": "BGR"}, 1e-5),
        ("mobilenet_v1_0.5_160_fp32_logits.onnx", {"mean": [128], "std": [128]}, 1e-5),
        ("mlperftiny_resnet8_cifar10.onnx", {"color": "RGB"}, 1e-5),
        ("mobilenet_v1_0.25_128_quant.qdq.onnx", {"color": "RGB"}, 0),
    ],
)
def test_real_models(file, preprocess, tolerance):
    plain = SHARED_DATA / "models" / file
    one, other = (
        Engine(from_onnx(plain, preprocess=preprocess, input=kind).SerializeToString())
        for kind in ("model", "uint8")
    )
    for name in ("bird.jpg", "coffee.jpg"):
        expected, found = (each.explain(SHARED_DATA / "photos" / name) for each in (one, other))
        assert found.target == expected.target
        assert expected.diagnosis.reason is None
        np.testing.assert_allclose(found.map, expected.map, atol=tolerance)


def test_open_sides():
    plain = small_network(size="side")
    model = from_onnx(plain, preprocess="imagenet", input="uint8", size=(24, 20))
    sizes = [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == ["batch", "side", "side", 3]
    found = Engine(model.SerializeToString())
    assert found.explain(PHOTO).map.shape == (12, 10)
    assert found.maps(BYTES).shape == (2, 8, 8)


@pytest.mark.parametrize("preset", ["imagenet", "caffe", "tf"])
def test_verify_compares_what_the_network_gets(preset):
    source = onnx_file.capture(small_network())
    built = build(source, layer="relu2", preprocess=preset, input="uint8")
    found = verify_each(built, source)
    assert ["bytes" in each.oracle for each in found] == [False, True]
    assert max(each.error for each in found) < 1e-4
    for tensor in built.model.graph.initializer:  # the shift is lost
        if tensor.name.startswith("cam/") and list(tensor.dims) in ([3, 1, 1], [1, 1, 1]):
            values = onnx.numpy_helper.to_array(tensor)
            if (values < 0).any():
                tensor.CopyFrom(onnx.numpy_helper.from_array(values * 0, tensor.name))
    with pytest.raises(ExportError, match=r"activation of bytes.*DIFFERS"):
        verify_each(built, source)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"input": "uint8"}, PreprocessError, "give preprocess"),
        ({"input": "uint8", "preprocess": "none"}, PreprocessError, "give preprocess"),
        ({"input": "bytes"}, ExportError, "expected one of model, uint8; got 'bytes'"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        from_onnx(small_network(), **options)


def test_an_input_that_is_no_picture():
    plain = small_network()
    graph, helper = plain.graph, onnx.helper
    flat = helper.make_tensor_value_info("row", onnx.TensorProto.FLOAT, ["batch", 768])
    graph.input[0].CopyFrom(flat)
    graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1, 3, 16, 16]), "sides"))
    graph.node.insert(0, helper.make_node("Reshape", ["row", "sides"], ["picture"]))
    with pytest.raises(ExportError, match="the input 'row' has 2"):
        from_onnx(plain, input="uint8")
