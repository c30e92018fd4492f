"""LSTM, GRU and RNN: against torch where onnx's evaluator cannot, and what is refused."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.helper as oh
import onnxruntime as ort
import pytest

from helpers_gradients import with_gradients
from onnxcam.errors import UnsupportedOpError
from onnxcam_export import from_torch

RNG = np.random.default_rng(21)
STEPS, BATCH, WIDTH, HIDDEN = 5, 3, 4, 6


def real(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def weights(gates, sides=1):
    return [
        real(sides, gates * HIDDEN, WIDTH) / 2,
        real(sides, gates * HIDDEN, HIDDEN) / 3,
        real(sides, 2 * gates * HIDDEN) / 2,
    ]


def model(op_type, constants, outputs=("y",), steps=STEPS, before=(), extra=(), **attributes):
    """One operator on x0 [steps, N, WIDTH], its constants W, R, B."""
    names = ["x0", "w", "r", "b", *extra]
    attributes.setdefault("hidden_size", HIDDEN)
    node = oh.make_node(op_type, names[: 1 + len(constants)] + list(extra), list(outputs), "node",
                        **attributes)  # fmt: skip
    shape = [steps, "N", WIDTH]
    value = oh.make_tensor_value_info
    graph = oh.make_graph(
        [*before, node], "recurrent", [value("x0", 1, shape)],
        [value(name, 1, None) for name in outputs if name],
        [onnx.numpy_helper.from_array(c, n) for n, c in zip(names[1:4], constants, strict=False)],
    )  # fmt: skip
    return oh.make_model(graph, opset_imports=[oh.make_opsetid("", 18)], ir_version=9)


def derived(forward, x, seed):
    proto = with_gradients(forward, ["x0"])
    onnx.checker.check_model(proto, full_check=True)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["dx0"], {"x0": x, "v0": seed})[0]


def test_relu_and_an_open_batch_agree_with_torch():
    """onnx's evaluator knows no other activations than the default ones."""
    torch = pytest.importorskip("torch")
    w, r, b = weights(1)
    x, seed = real(STEPS, BATCH, WIDTH), real(STEPS, 1, BATCH, HIDDEN)
    found = derived(model("RNN", (w, r, b), activations=["Relu"]), x, seed)
    layer = torch.nn.RNN(WIDTH, HIDDEN, nonlinearity="relu")
    for name, array in (("weight_ih_l0", w[0]), ("weight_hh_l0", r[0]),
                        ("bias_ih_l0", b[0, :HIDDEN]), ("bias_hh_l0", b[0, HIDDEN:])):  # fmt: skip
        getattr(layer, name).data = torch.tensor(array)
    tensor = torch.tensor(x, requires_grad=True)
    (layer(tensor)[0] * torch.tensor(seed[:, 0])).sum().backward()
    np.testing.assert_allclose(found, tensor.grad.numpy(), atol=2e-5)


def test_relu_within_an_lstm_agrees_with_torch():
    torch = pytest.importorskip("torch")
    w, r, b = weights(4)
    x, seed = real(STEPS, BATCH, WIDTH), real(STEPS, 1, BATCH, HIDDEN)
    names = ["Sigmoid", "Relu", "Relu"]
    found = derived(model("LSTM", (w, r, b), activations=names), x, seed)
    tensor = torch.tensor(x, requires_grad=True)
    h = c = torch.zeros(BATCH, HIDDEN)
    total = 0
    for time in range(STEPS):
        sums = tensor[time] @ torch.tensor(w[0].T) + h @ torch.tensor(r[0].T)
        i, o, f, new = (sums + torch.tensor(b[0]).reshape(2, -1).sum(0)).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.relu(new)
        h = torch.sigmoid(o) * torch.relu(c)
        total = total + (h * torch.tensor(seed[time, 0])).sum()
    total.backward()
    np.testing.assert_allclose(found, tensor.grad.numpy(), atol=2e-5)


@pytest.mark.parametrize(("op_type", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_only_the_last_state_asked_for(op_type, gates):
    """The same as asking for both, with no gradient at the states."""
    constants, x = weights(gates, 2), real(STEPS, BATCH, WIDTH)
    seed = real(2, BATCH, HIDDEN)
    found = derived(model(op_type, constants, ("", "y_h"), direction="bidirectional"), x, seed)
    both = with_gradients(
        model(op_type, constants, ("y", "y_h"), direction="bidirectional"), ["x0"]
    )
    session = ort.InferenceSession(both.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {"x0": x, "v0": np.zeros((STEPS, 2, BATCH, HIDDEN), np.float32), "v1": seed}
    np.testing.assert_allclose(found, session.run(["dx0"], feed)[0], atol=1e-6)
    assert np.abs(found).max() > 1e-2


def test_one_length_repeated_over_an_open_batch():
    """As tf2onnx writes sequence_lens."""
    constants, x = weights(4), real(STEPS, BATCH, WIDTH)
    seed = real(STEPS, 1, BATCH, HIDDEN)
    length = onnx.numpy_helper.from_array(np.array([STEPS], np.int32))
    lengths = [
        oh.make_node("Shape", ["x0"], ["batch"], start=1, end=2),
        oh.make_node("Constant", [], ["length"], value=length),
        oh.make_node("Expand", ["length", "batch"], ["lengths"]),
    ]  # fmt: skip
    found = derived(model("LSTM", constants, before=lengths, extra=["lengths"]), x, seed)
    plain = derived(model("LSTM", constants), x, seed)
    np.testing.assert_array_equal(found, plain)


@pytest.mark.parametrize(("op_type", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_length_of_the_sequence_can_be_open(op_type, gates):
    constants, x = weights(gates, 2), real(STEPS, BATCH, WIDTH)
    seed = real(STEPS, 2, BATCH, HIDDEN)
    open_length = model(op_type, constants, direction="bidirectional", steps="T")
    fixed = model(op_type, constants, direction="bidirectional")
    found = derived(open_length, x, seed)
    np.testing.assert_allclose(found, derived(fixed, x, seed), atol=1e-6)


@pytest.mark.parametrize(
    ("reason", "arguments"),
    [
        ("clip", {"clip": 3.0}),
        ("input_forget", {"input_forget": 1}),
        ("batch first", {"layout": 1}),
        ("activation HardSigmoid", {"activations": ["HardSigmoid", "Tanh", "Tanh"]}),
    ],
)
def test_what_is_refused_says_why(reason, arguments):
    forward = model("LSTM", weights(4), **arguments)
    with pytest.raises(UnsupportedOpError, match=reason):
        with_gradients(forward, ["x0"])


def test_text_recognition_network_agrees_with_autograd():
    """Convolutions, columns as a sequence, a bidirectional LSTM: explained at a convolution."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")

    class Recogniser(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.features = torch.nn.Sequential(
                torch.nn.Conv2d(1, 6, 3, 2, 1), torch.nn.ReLU(), torch.nn.Conv2d(6, 8, 3, 1, 1),
                torch.nn.ReLU(),
            )  # fmt: skip
            self.memory = torch.nn.LSTM(8 * 4, 10, num_layers=2, bidirectional=True)
            self.letters = torch.nn.Linear(20, 5)

        def forward(self, x):
            maps = self.features(x)
            columns = maps.flatten(1, 2).permute(2, 0, 1)
            return self.letters(self.memory(columns)[0]).mean(0)

    torch.manual_seed(3)
    module, x = Recogniser().eval(), torch.randn(2, 1, 8, 24)
    proto = from_torch(module, x, "features.3")
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x.numpy(), "cam_target": np.array([1, 4])}
    activation, found = session.run(["cam_activation", "cam_gradient"], feed)
    maps = torch.tensor(activation, requires_grad=True)
    columns = maps.flatten(1, 2).permute(2, 0, 1)
    scores = module.letters(module.memory(columns)[0]).mean(0)
    scores[[0, 1], [1, 4]].sum().backward()
    expected = maps.grad.numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    # several targets: what the way back needs of the forward pass is there once
    several = from_torch(module, x, "features.3", targets=3)
    scans = [sum(n.op_type == "Scan" for n in p.graph.node) for p in (proto, several)]
    assert scans == [4, 8]  # a layer: one Scan of its cells, and one back for each target
    session = ort.InferenceSession(several.SerializeToString(), providers=["CPUExecutionProvider"])
    feed["cam_target"] = np.array([[0, 1, 2], [4, 3, 0]])
    (all_found,) = session.run(["cam_gradient"], feed)
    np.testing.assert_allclose(all_found[0, 1], expected[0], atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(all_found[1, 0], expected[1], atol=1e-5 * np.abs(expected).max())
