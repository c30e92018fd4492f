"""Scores that are no class: against torch's autograd of the same number."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.helper as oh
import onnxruntime as ort
import pytest
from onnx.numpy_helper import from_array, to_array

from helpers_onnx import small_network
from onnxcam import Engine
from onnxcam.cli import main
from onnxcam.errors import ExportError
from onnxcam_export import from_onnx
from onnxcam_export.assemble import build
from onnxcam_export.sources import onnx_file
from onnxcam_export.verify import verify

RNG = np.random.default_rng(31)
PICTURES = RNG.standard_normal((2, 3, 16, 16)).astype(np.float32)
WEIGHTS = {
    "w1": (RNG.standard_normal((4, 3, 3, 3)) * 0.3).astype(np.float32),
    "w2": RNG.standard_normal((3, 4, 1, 1)).astype(np.float32),
}


def per_pixel(final=None, boxes=False, batch="batch") -> onnx.ModelProto:
    """Conv, Relu, MaxPool, 1x1 Conv: three classes a pixel; `boxes`: [N, 64 pixels, 3 classes]."""
    nodes = [
        oh.make_node("Conv", ["picture", "w1"], ["conv1"], pads=[1] * 4),
        oh.make_node("Relu", ["conv1"], ["relu1"]),
        oh.make_node("MaxPool", ["relu1"], ["pool1"], kernel_shape=[2, 2], strides=[2, 2]),
        oh.make_node("Conv", ["pool1", "w2"], ["scores"]),
    ]
    shape, initializers = [batch, 3, 8, 8], [from_array(v, k) for k, v in WEIGHTS.items()]
    last = "scores"
    if boxes:
        initializers.append(from_array(np.array([0, 3, 64]), "flat"))
        nodes.append(oh.make_node("Reshape", [last, "flat"], ["columns"]))
        nodes.append(oh.make_node("Transpose", ["columns"], ["boxes"], perm=[0, 2, 1]))
        shape, last = [batch, 64, 3], "boxes"
    if final:
        nodes.append(
            oh.make_node(final, [last], ["end"], **({"axis": 1} if final != "Sigmoid" else {}))
        )
        last = "end"
    float32 = onnx.TensorProto.FLOAT
    graph = oh.make_graph(
        nodes,
        "per_pixel",
        [oh.make_tensor_value_info("picture", float32, [batch, 3, 16, 16])],
        [oh.make_tensor_value_info(last, float32, shape)],
        initializers,
    )
    return oh.make_model(graph, opset_imports=[oh.make_opsetid("", 18)], ir_version=9)


def torch_per_pixel():
    """Activation (a leaf) of relu1 and the scores [N, 3, 8, 8] made of it."""
    import torch
    import torch.nn.functional as F

    w = {name: torch.from_numpy(value) for name, value in WEIGHTS.items()}
    activation = F.relu(F.conv2d(torch.from_numpy(PICTURES), w["w1"], padding=1)).detach()
    activation.requires_grad_()
    return activation, F.conv2d(F.max_pool2d(activation, 2), w["w2"])


def run(model, **feed):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    found = session.run(None, {"picture": PICTURES} | feed)
    return dict(zip([o.name for o in session.get_outputs()], found, strict=True))


def close(actual, expected):
    expected = np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() < 1e-5 * np.abs(expected).max()


def test_mean_over_a_region_of_a_channels_last_output():
    """The class is still the channel, and the mask still [N, H, W]."""
    plain = per_pixel()
    graph = plain.graph
    graph.node.append(oh.make_node("Transpose", ["scores"], ["last"], perm=[0, 2, 3, 1]))
    graph.node.append(oh.make_node("Softmax", ["last"], ["shares"], axis=-1))
    info = oh.make_tensor_value_info("shares", onnx.TensorProto.FLOAT, ["batch", 8, 8, 3])
    graph.output[0].CopyFrom(info)
    mask = RNG.random((2, 8, 8)).astype(np.float32)
    feed = {"cam_mask": mask, "cam_target": np.array([2, 0])}
    for score in ("logit", "probability"):
        outputs = run(from_onnx(plain, "relu1", score, score_of="region"), **feed)
        first = run(from_onnx(per_pixel("Softmax"), "relu1", score, score_of="region"), **feed)
        close(outputs["cam_score"], first["cam_score"])
        close(outputs["cam_gradient"], first["cam_gradient"])
    source = onnx_file.capture(plain)
    assert verify(build(source, layer="relu1", score_of="region"), source).error < 1e-4


@pytest.mark.parametrize("final", [None, "Softmax", "Sigmoid"])
@pytest.mark.parametrize("score", ["logit", "probability"])
def test_mean_over_a_region(final, score):
    import torch

    if final is None and score == "probability":
        with pytest.raises(ExportError, match="not made by Softmax or Sigmoid"):
            from_onnx(per_pixel(), score=score, score_of="region")
        return
    model = from_onnx(per_pixel(final), "relu1", score, score_of="region")
    mask = (RNG.random((2, 8, 8)) < 0.3).astype(np.float32)
    outputs = run(model, cam_mask=mask, cam_target=np.array([2, 0]))
    activation, value = torch_per_pixel()
    if score == "probability":
        value = value.softmax(1) if final == "Softmax" else value.sigmoid()
    weights = torch.from_numpy(mask)[:, None]
    means = (value * weights).sum(dim=(2, 3)) / weights.sum(dim=(2, 3))
    close(outputs["cam_score"], means.detach())
    (means[0, 2] + means[1, 0]).backward()
    close(outputs["cam_gradient"], activation.grad)


def test_the_best_class_of_a_region():
    model = from_onnx(per_pixel(), "relu1", score_of="region")
    mask = np.zeros((2, 8, 8), np.float32)
    mask[:, 2:5, 3:6] = 1
    highest = run(model, cam_mask=mask, cam_target=np.array([-1, -1]))
    best = highest["cam_score"].argmax(axis=1)
    named = run(model, cam_mask=mask, cam_target=best)
    np.testing.assert_array_equal(highest["cam_gradient"], named["cam_gradient"])
    outside = np.ones((16, 16), bool)
    outside[4:10, 6:12] = False
    assert not highest["cam_gradient"][:, :, outside].any()


def test_an_empty_region_is_no_map_but_a_reason():
    engine = Engine(
        from_onnx(per_pixel(), "relu1", score_of="region", preprocess="unit").SerializeToString()
    )
    photo = RNG.integers(0, 256, (16, 16, 3), np.uint8)
    mask = np.zeros((1, 8, 8), np.float32)
    assert engine.explain(photo, 0, inputs={"cam_mask": mask}).diagnosis.reason == "non_finite"
    whole = engine.explain(photo, 0, inputs={"cam_mask": mask + 1})
    assert np.isfinite(whole.raw).all() and whole.raw.any()


@pytest.mark.parametrize(
    ("final", "score"), [(None, "logit"), ("Sigmoid", "logit"), ("Sigmoid", "probability")]
)
@pytest.mark.parametrize("batch", ["batch", 2])
def test_one_class_of_one_box(final, score, batch):
    model = from_onnx(per_pixel(final, True, batch), "relu1", score, score_of="element")
    boxes, classes = [17, 63], [2, 1]
    targets = np.array([box * 3 + c for box, c in zip(boxes, classes, strict=True)])
    outputs = run(model, cam_target=targets)
    activation, value = torch_per_pixel()
    value = value.flatten(2).transpose(1, 2)
    if score == "probability":
        value = value.sigmoid()
    close(outputs["cam_score"], value.detach().flatten(1))
    (value[0, 17, 2] + value[1, 63, 1]).backward()
    close(outputs["cam_gradient"], activation.grad)
    with pytest.raises(Exception, match="out of data bounds"):
        run(model, cam_target=np.array([0, 64 * 3]))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_file_holds_no_tables_of_many_elements(dtype):
    """[N, 65536 places, 3]: one number of each place is the picture's own pixel, halved."""
    element = oh.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [
        oh.make_node("Relu", ["picture"], ["positive"]),
        oh.make_node("Mul", ["positive", "half"], ["halved"]),
        oh.make_node("Transpose", ["halved"], ["boxes"], perm=[0, 2, 3, 1]),
    ]
    shape = ["batch", 3, 256, 256]
    graph = oh.make_graph(
        nodes,
        "many",
        [oh.make_tensor_value_info("picture", element, shape)],
        [oh.make_tensor_value_info("boxes", element, ["batch", 256, 256, 3])],
        [from_array(np.array(0.5, dtype), "half")],
    )
    plain = oh.make_model(graph, opset_imports=[oh.make_opsetid("", 18)], ir_version=9)
    pool = oh.make_node("MaxPool", ["positive"], ["same"], kernel_shape=[1, 1])
    graph = plain.graph
    graph.node.insert(1, pool)  # says where the channels are
    graph.node[2].input[0] = "same"
    model = from_onnx(plain, "positive", score_of="element")
    assert len(model.SerializeToString()) < 20_000
    pictures = np.ones((2, 3, 256, 256), dtype)
    targets = np.array([7 * 256 * 3 + 5 * 3 + 2, 256 * 256 * 3 - 1])
    gradient = run(model, picture=pictures, cam_target=targets)["cam_gradient"]
    expected = np.zeros_like(gradient)
    expected[0, 2, 7, 5] = expected[1, 2, 255, 255] = 0.5
    np.testing.assert_array_equal(gradient, expected)
    with pytest.raises(Exception, match="out of data bounds"):
        run(model, picture=pictures, cam_target=np.array([0, 256 * 256 * 3]))


@pytest.mark.parametrize("score_of", ["dot", "cosine"])
@pytest.mark.parametrize("targets", [0, -1])
def test_likeness_to_a_vector(score_of, targets):
    import torch
    import torch.nn.functional as F

    plain = small_network()
    model = from_onnx(plain, score_of=score_of)
    vector = RNG.standard_normal((2, 5)).astype(np.float32)
    outputs = run(model, cam_vector=vector, cam_target=np.full(2, targets))
    w = {t.name: torch.tensor(to_array(t)) for t in plain.graph.initializer}
    activation = torch.tensor(outputs["cam_activation"], requires_grad=True)
    embedding = F.linear(activation.mean(dim=(2, 3)), w["w3"], w["b3"])
    wanted = torch.from_numpy(vector)
    likeness = (
        F.cosine_similarity(embedding, wanted)
        if score_of == "cosine"
        else (embedding * wanted).sum(1)
    )
    close(outputs["cam_score"], likeness.detach()[:, None])
    likeness.sum().backward()
    close(outputs["cam_gradient"], activation.grad)


@pytest.mark.parametrize("rank", [1, 2])
def test_one_regressed_number(rank):
    """[N] and [N, 1] are scores as they are."""
    plain = small_network(classes=1)
    graph = plain.graph
    if rank == 1:
        graph.initializer.append(from_array(np.array([1]), "axis"))
        graph.node.append(oh.make_node("Squeeze", ["logits", "axis"], ["number"]))
        info = oh.make_tensor_value_info("number", onnx.TensorProto.FLOAT, ["batch"])
        graph.output[0].CopyFrom(info)
    model = from_onnx(plain, preprocess="unit")
    outputs = run(model, cam_target=np.array([0, -1]))
    row = next(to_array(t) for t in graph.initializer if t.name == "w3")[0]
    expected = np.broadcast_to(row[None, :, None, None] / 64, (2, 6, 8, 8))
    close(outputs["cam_gradient"], expected)
    photo = RNG.integers(0, 256, (16, 16, 3), np.uint8)
    result = Engine(model.SerializeToString()).explain(photo)
    assert result.target == 0
    assert result.probability is None
    with pytest.raises(Exception, match="out of data bounds"):
        run(model, cam_target=np.array([0, 1]))


@pytest.mark.parametrize(
    ("plain", "score_of", "message"),
    [
        (small_network(), "region", r"expected \[N, C, H, W\]"),
        (per_pixel(), "cosine", "one vector an image"),
        (per_pixel(batch="n"), "box", "class, element, region, dot, cosine"),
        (per_pixel(), "class", r"one value per class.*element, region"),
    ],
)
def test_what_does_not_fit(plain, score_of, message):
    with pytest.raises(ExportError, match=message):
        from_onnx(plain, score_of=score_of)


def test_the_engine_lists_the_scores_and_not_the_added_outputs():
    model = from_onnx(
        per_pixel(), "relu1", score_of="region", preprocess="unit", labels=list("abc")
    )
    photo = RNG.integers(0, 256, (16, 16, 3), np.uint8)
    result = Engine(model.SerializeToString()).explain(
        photo, inputs={"cam_mask": np.ones((1, 8, 8), np.float32)}
    )
    expected = result.outputs["scores"].mean(axis=(1, 2))
    np.testing.assert_allclose(result.scores, expected, atol=1e-5)
    assert result.target == expected.argmax()
    assert list(result.outputs) == ["scores"]


def test_command_line(tmp_path, capsys):
    plain, out = str(tmp_path / "plain.onnx"), str(tmp_path / "out.onnx")
    onnx.save(per_pixel(), plain)
    assert main(["inspect", plain]) == 0
    assert "element, region" in capsys.readouterr().out
    assert main(["inspect", plain, "--score-of", "region"]) == 0
    assert "* " in capsys.readouterr().out
    command = ["export", "onnx", plain, "--layer", "relu1", "--score-of", "region", "--verify"]
    assert main([*command, "-o", out]) == 0
    printed = capsys.readouterr().out
    assert "logit of 'cam_score', region of 'scores', 3 values" in printed
    assert "further inputs: cam_mask" in printed
    assert "agrees" in printed
    assert main(["inspect", out]) == 0
    assert "of output 'cam_score' (raw)" in capsys.readouterr().out
