"""Choosing providers, and what happens where one is missing, fails, or leaves nodes to the CPU.

Providers other than the CPU's are played by stand-ins, but for the last test, which runs on every
provider that the installed onnxruntime has.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from helpers_explaining import CLASSES, SIDE, HandMade
from onnxcam import Engine
from onnxcam.cli import main
from onnxcam.cli.providers_option import starting_providers
from onnxcam.errors import InputError, ModelError, TargetError
from onnxcam.placement import RECORD, Placement
from onnxcam.providers import CPU, PROVIDERS, add_to, choose, parse_providers
from onnxcam.session import Session, telling_part

MADE = HandMade()
MODEL = MADE.bytes()
RANDOM = np.random.default_rng(11)


@pytest.fixture
def everything(monkeypatch):
    """An onnxruntime that says it has every provider."""
    names = [row.name for row in PROVIDERS]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda **_: None, raising=False)


@pytest.mark.parametrize(
    ("text", "providers"),
    [
        (None, None),
        ("cuda", ["cuda"]),
        ("tensorrt, cpu", ["tensorrt", "cpu"]),
        (
            "cuda:device_id=1:use_tf32=0,cpu",
            [("cuda", {"device_id": "1", "use_tf32": "0"}), "cpu"],
        ),
        ("openvino:load_config=a=b.json", [("openvino", {"load_config": "a=b.json"})]),
        (
            '[["openvino", {"device_type": "HETERO:GPU,CPU"}], "cpu"]',
            [["openvino", {"device_type": "HETERO:GPU,CPU"}], "cpu"],
        ),
    ],
)
def test_option_text(text, providers):
    assert parse_providers(text) == providers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "one is empty"),
        ("cuda,,cpu", "one is empty"),
        ("cuda:1", r"expected NAME:OPTION=VALUE, got 'cuda:1'"),
        ("openvino:load_config=C:\\a.json", "given as JSON"),
        ("[1", "not JSON"),
    ],
)
def test_bad_option_text(text, message):
    with pytest.raises(InputError, match=message):
        parse_providers(text)


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (None, []),
        ("cuda", [("CUDAExecutionProvider", {})]),
        (["TensorRT", "CPU"], [("TensorrtExecutionProvider", {}), (CPU, {})]),
        ("dml", [("DmlExecutionProvider", {})]),
        ("DirectML", [("DmlExecutionProvider", {})]),
        ([("openvino", {"a": {"b": "c"}})], [("OpenVINOExecutionProvider", {"a": '{"b": "c"}'})]),
        ("CoreMLExecutionProvider", [("CoreMLExecutionProvider", {})]),
        ([("xnnpack",), ["qnn", {"a": 1}]], None),
    ],
)
def test_names(everything, wanted, chosen):
    if chosen is None:
        chosen = [("XnnpackExecutionProvider", {}), ("QNNExecutionProvider", {"a": 1})]
    assert choose(wanted) == chosen


def test_a_provider_of_another_build(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["NewExecutionProvider"])
    assert choose(["new"]) == choose(["NewExecutionProvider"]) == [("NewExecutionProvider", {})]


@pytest.mark.parametrize("wanted", [[], 3, [3], [None], [("cpu", 3)], [("cpu", {}, {})], [[]]])
def test_bad_names(wanted):
    with pytest.raises(ModelError, match="providers: expected"):
        choose(wanted)


@pytest.mark.parametrize("row", PROVIDERS[1:], ids=lambda row: row.short[0])
def test_what_brings_a_missing_provider(monkeypatch, row):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name in (*row.short, row.name):
        with pytest.raises(ModelError) as caught:
            Session(MODEL, providers=[name, "cpu"])
        assert f"provider '{name}' is not in this onnxruntime; it has cpu" in str(caught.value)
        assert row.install in str(caught.value)


def test_a_provider_that_does_not_start(everything, capfd):
    """onnxruntime would print() and take the CPU; with options or without."""
    for wanted in ("rocm", [("rocm", {"device_id": 3}), "cpu"]):
        with (
            pytest.warns(UserWarning, match="not in available"),
            pytest.raises(ModelError, match=r"ROCM.*(Unknown Provider Type|did not start)"),
        ):
            Session(MODEL, providers=wanted)
    assert capfd.readouterr().out == ""


def test_the_telling_part_of_a_message():
    loud = (
        "/src/provider_bridge_ort.cc:2043 onnxruntime::Provider& onnxruntime::Library::Get() "
        "[ONNXRuntimeError] : 1 : FAIL : Failed to load a.so with\n error: b.so: no such file"
    )
    assert telling_part(loud) == "Failed to load a.so with error: b.so: no such file"
    where = "/src/state.cc:729 void onnxruntime::Register(Options&, const Map&) Please install it."
    assert telling_part(where) == "Please install it."
    assert telling_part("Device GPU is not available") == "Device GPU is not available"


# --- plug-ins -------------------------------------------------------------------------------------


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """An installed package that says where its library is: a file that is no library."""
    library = tmp_path / "library.so"
    library.write_bytes(b"no library")
    (tmp_path / "onnxruntime_qnn.py").write_text(
        f"def get_library_path():\n    return {str(library)!r}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield library
    sys.modules.pop("onnxruntime_qnn", None)


needs_plugins = pytest.mark.skipif(
    not hasattr(onnxruntime, "register_execution_provider_library"),
    reason="this onnxruntime knows no plug-ins",
)


@needs_plugins
def test_a_plugin_that_does_not_load(plugin):
    with pytest.raises(ModelError, match=r"plug-in onnxruntime_qnn does not load: ") as caught:
        choose(["qnn"])
    assert "\n" not in str(caught.value)


@needs_plugins
def test_a_plugin_without_a_device(plugin, monkeypatch):
    calls = []
    for name in ("register", "unregister"):
        monkeypatch.setattr(
            onnxruntime,
            f"{name}_execution_provider_library",
            lambda *arguments, name=name: calls.append((name, *arguments)),
        )
    with pytest.raises(ModelError, match="'qnn': the plug-in onnxruntime_qnn finds no device"):
        choose(["qnn"])
    assert calls == [
        ("register", "QNNExecutionProvider", str(plugin)),
        ("unregister", "QNNExecutionProvider"),
    ]


@needs_plugins
def test_a_plugin_is_asked_for_by_its_device(plugin, monkeypatch):
    devices = [
        SimpleNamespace(ep_name=name, number=i)
        for i, name in enumerate([CPU, "QNNExecutionProvider", "QNNExecutionProvider"])
    ]
    monkeypatch.setattr(onnxruntime, "register_execution_provider_library", lambda *_: None)
    monkeypatch.setattr(onnxruntime, "get_ep_devices", lambda: devices)
    calls = []
    options = SimpleNamespace(
        add_provider=lambda *arguments: calls.append(arguments),
        add_provider_for_devices=lambda found, own: calls.append(([x.number for x in found], own)),
    )
    chosen = choose([("qnn", {"a": 1}), "cpu"])
    assert add_to(options, chosen) is None
    assert calls == [([1], {"a": "1"})]
    assert add_to(options, [*chosen, ("XnnpackExecutionProvider", {"b": 2})]) is None
    assert calls[1:] == [([1], {"a": "1"}), ("XnnpackExecutionProvider", {"b": "2"})]
    without = [(CPU, {})]
    assert add_to(options, without) == without


# --- session options ------------------------------------------------------------------------------


def test_session_options(tmp_path):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    tensor = RANDOM.normal(size=(1, 3, SIDE, SIDE)).astype(np.float32)
    engine = Engine(MODEL, session_options=options, threads=1)
    assert options.intra_op_num_threads == 1
    assert (tmp_path / "optimised.onnx").exists()
    np.testing.assert_array_equal(engine.maps(tensor), Engine(MODEL).maps(tensor))
    with pytest.raises(ModelError, match=r"expected onnxruntime\.SessionOptions, got dict"):
        Engine(MODEL, session_options={"intra_op_num_threads": 1})


@pytest.mark.skipif(
    not hasattr(onnxruntime.SessionOptions, "add_provider"), reason="an older onnxruntime"
)
def test_session_options_that_name_providers():
    options = onnxruntime.SessionOptions()
    cpu = [device for device in onnxruntime.get_ep_devices() if device.ep_name == CPU]
    options.add_provider_for_devices(cpu[:1], {})
    assert Session(MODEL, session_options=options).on_cpu
    with pytest.raises(ModelError, match="give one of both"):
        Session(MODEL, "cpu", session_options=options)


# --- where the nodes run --------------------------------------------------------------------------


@pytest.mark.skipif(
    not hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info"),
    reason="an older onnxruntime",
)
def test_placement_counts_the_graph_as_it_is():
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry(RECORD, "1")
    placement = Engine(MODEL, session_options=options).placement
    nodes = MADE.model().graph.node
    # Constant nodes become initializers.
    expected = Counter(node.op_type for node in nodes if node.op_type != "Constant")
    assert placement.nodes == {CPU: dict(expected)}
    assert placement.on_cpu == sum(expected.values())


def test_placement_in_words():
    nodes = {"CUDAExecutionProvider": {"Conv": 53, "Relu": 5}, CPU: {"Shape": 1, "Reshape": 2}}
    assert str(Placement(nodes)) == "nodes: 58 on CUDA, 3 on CPU (Reshape, Shape)"
    assert Placement(nodes).on_cpu == 3
    assert Placement({"CUDAExecutionProvider": {"Conv": 53}}).on_cpu == 0
    many = {CPU: dict.fromkeys("abcdefgh", 1)}
    assert str(Placement(many)) == "nodes: 8 on CPU (a, b, c, d, e, f, ...)"
    older = Placement.of(SimpleNamespace())
    assert older.on_cpu is None
    assert "does not tell" in str(older)


# --- targets, where the provider does not check ---------------------------------------------------


def test_a_target_out_of_range_is_an_error_where_the_run_is_none(monkeypatch):
    """As seen of OpenVINO and WebGPU: no error, but a gradient of NaN."""
    run = Session.run

    def lenient(self, feeds, outputs):
        if (feeds["cam_target"] < CLASSES).all():
            return run(self, feeds, outputs)
        found = run(self, {**feeds, "cam_target": np.zeros_like(feeds["cam_target"])}, outputs)
        return {name: value * np.float32("nan") for name, value in found.items()}

    monkeypatch.setattr(Session, "run", lenient)
    monkeypatch.setattr(Session, "on_cpu", False)
    engine = Engine(MODEL)
    engine.model.classes = None  # as of a file with an open axis of classes
    tensor = RANDOM.normal(size=(2, 3, SIDE, SIDE)).astype(np.float32)
    for _ in range(3):
        with pytest.raises(TargetError, match=f"expected 0 to {CLASSES - 1}"):
            engine.maps(tensor, [0, CLASSES])
        assert engine.maps(tensor, [0, CLASSES - 1]).any()
    with pytest.raises(TargetError, match=f"expected 0 to {CLASSES - 1}"):
        engine.explain(np.zeros((9, 9, 3), np.uint8), CLASSES)


# --- the commands ---------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.onnx").write_bytes(MODEL)
    Image.fromarray(np.full((9, 12, 3), 90, np.uint8)).save("a.png")
    return tmp_path


@pytest.mark.parametrize("command", ["explain", "bench"])
@pytest.mark.parametrize("providers", ["warp", "cuda:device_id", "[", "[]", ""])
def test_commands_refuse_in_one_line(folder, capfd, command, providers):
    words = ["a.png"] if command == "explain" else []
    before = set(folder.iterdir())
    assert main([command, "model.onnx", *words, "--providers", providers]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"onnxcam {command}: ") and err.count("\n") == 1
    assert set(folder.iterdir()) == before


def test_commands_say_where_the_nodes_run(folder, capfd, monkeypatch):
    assert main(["explain", "model.onnx", "a.png", "--providers", "cpu"]) == 0
    assert "nodes" not in capfd.readouterr().out
    assert main(["explain", "model.onnx", "a.png", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["placement"] == {"providers": [CPU], "nodes": None}
    nodes = {"QNNExecutionProvider": {"Conv": 1}, CPU: {"Gather": 2}}
    monkeypatch.setattr(Session, "on_cpu", False)
    monkeypatch.setattr(Session, "placement", Placement(nodes))
    told = "nodes: 1 on QNN, 2 on CPU (Gather)\n"
    for words in (["explain", "model.onnx", "a.png"], ["bench", "model.onnx", "--seconds", "0.01"]):
        assert main(words) == 0
        assert told in capfd.readouterr().out
        assert main([*words, "--json"]) == 0
        assert json.loads(capfd.readouterr().out)["placement"]["nodes"] == nodes


def test_the_reason_is_in_the_error(capfd):
    def start(logged: str) -> None:
        with starting_providers("cuda"):
            os.write(2, logged.encode())
            if "slow" not in logged:
                raise ModelError("did not start")

    logged = "\x1b[1;31m2026-01-31 01:02 [E:onnxruntime:Default, a.cc:7 f()] no such GPU\x1b[m\n"
    with pytest.raises(ModelError, match=r"did not start \(onnxruntime: no such GPU\)$"):
        start(logged)
    with pytest.raises(ModelError, match=r"did not start$"):
        start("")
    assert capfd.readouterr().err == ""
    slow = "[W:onnxruntime:Default, a.cc:7 f] slow\n"
    start(slow)
    assert capfd.readouterr().err == slow


# --- what crosses to the host ---------------------------------------------------------------------


@pytest.mark.parametrize("emit", ["gradient", "weights", "heatmap"])
def test_only_what_is_needed_is_asked_for(monkeypatch, emit):
    """What nobody asks for stays on the provider's device."""
    asked = []
    run, bind = Session.run, Session.bind
    monkeypatch.setattr(
        Session,
        "run",
        lambda self, feeds, names: asked.append(set(names)) or run(self, feeds, names),
    )
    monkeypatch.setattr(
        Session, "bind", lambda self, outputs: asked.append(set(outputs)) or bind(self, outputs)
    )
    engine = Engine(MADE.but(emit=emit).bytes())
    expected = {
        "gradient": {"cam_activation", "cam_gradient"},
        "weights": {"cam_activation", "cam_weights"},
        "heatmap": {"cam_heatmap"},
    }[emit]
    for _ in range(3):
        engine.maps(RANDOM.normal(size=(1, 3, SIDE, SIDE)).astype(np.float32))
    assert asked == [expected, expected]  # one ordinary run, one binding for all later ones
    engine.explain(np.zeros((9, 9, 3), np.uint8))
    assert asked[2] == expected | {"scores"}


# --- the providers of this onnxruntime ------------------------------------------------------------

HERE = [
    name
    for name in onnxruntime.get_available_providers()
    if name not in (CPU, "AzureExecutionProvider")  # a service, which runs no graph here
]


@pytest.mark.skipif(not HERE, reason="this onnxruntime runs models on the CPU only")
@pytest.mark.parametrize("emit", ["gradient", "weights", "heatmap"])
@pytest.mark.parametrize("name", HERE)
def test_as_on_the_cpu(name, emit):
    file = MADE.but(emit=emit).bytes()
    exact = {"use_tf32": 0} if name == "CUDAExecutionProvider" else {}
    try:
        engine = Engine(file, providers=[(name, exact)])
    except ModelError as error:
        pytest.skip(str(error))
    assert not engine.model.session.on_cpu
    assert engine.placement.nodes is None or set(engine.placement.nodes) <= {name, CPU}
    cpu = Engine(file)
    for _ in range(3):  # from the second run on into bound memory
        tensor = RANDOM.normal(size=(2, 3, SIDE, SIDE)).astype(np.float32)
        for targets in (None, [3, 1]):
            found, expected = engine.maps(tensor, targets), cpu.maps(tensor, targets)
            np.testing.assert_allclose(found, expected, atol=1e-3)
    with pytest.raises(TargetError):
        engine.maps(tensor, CLASSES)
    with pytest.raises(TargetError):
        engine.maps(tensor, [0, 1, 2])
