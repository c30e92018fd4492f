"""Model repositories for servers: what Triton reads and checks, and that requests give the maps."""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from onnx import TensorProto, helper
from PIL import Image

from helpers_explaining import CLASSES, LABELS, SIDE, HandMade
from helpers_onnx import REPOSITORY
from helpers_triton import Server, parse, real_model_config
from onnxcam import Engine
from onnxcam.attribution import attribute
from onnxcam.cli import main
from onnxcam.contract import Contract
from onnxcam.errors import InputError, ModelError
from onnxcam.serving.external_data import external_files
from onnxcam.serving.repository import default_name
from onnxcam.serving.triton import quoted

RNG = np.random.default_rng(3)
VARIANTS = [
    HandMade(),
    HandMade(emit="weights"),
    HandMade(emit="heatmap"),
    HandMade(targets="several"),
    HandMade(targets="none", labels=None),
    HandMade(dtype="float16"),
    HandMade(dtype="uint8", layout="NHWC"),
    HandMade(output_4d=True, kind="softmax", activation=None),
    HandMade(batch=1),
    HandMade(batch=2, emit="weights"),
]


def command(*words) -> int:
    return main(["serve-config", "triton", *map(str, words)])


def served(tmp_path, made: HandMade, *options) -> Server:
    (tmp_path / "net.cam.onnx").write_bytes(made.bytes())
    assert command(tmp_path / "net.cam.onnx", "-o", tmp_path / "repo", *options) == 0
    return Server(tmp_path / "repo" / "net")


def picture_of(made: HandMade, count: int) -> np.ndarray:
    shape = (3, SIDE, SIDE) if made.layout == "NCHW" else (SIDE, SIDE, 3)
    return RNG.uniform(0, 200, (count, *shape)).astype(made.dtype)


@pytest.mark.parametrize("made", VARIANTS, ids=range(len(VARIANTS)))
def test_the_server_loads_it_and_gives_what_the_engine_gives(tmp_path, made):
    server = served(tmp_path, made)
    batched = not isinstance(made.batch, int)
    assert server.config.max_batch_size == (8 if batched else 0)
    assert server.config.HasField("dynamic_batching") == batched
    picture = picture_of(made, 2 if batched else made.batch)
    request = {"picture": picture}
    targets = np.array([3, 1])[: len(picture)]
    if made.targets == "several":
        targets = np.array([[3, -1], [0, 1]])
    if made.targets != "none":
        # [N] is asked for as [N, 1] where the batch axis is the server's
        request["cam_target"] = targets[:, None] if batched and targets.ndim == 1 else targets
    found = server.infer(request)
    maps = Engine(made.bytes()).maps(picture, None if made.targets == "none" else targets)
    maps = np.asarray(maps)
    several = made.targets == "several"
    mine = attribute(found, made.emit, "gradcam", several=several).finished
    np.testing.assert_allclose(mine.reshape(maps.shape), maps, atol=1e-6)
    label_files = {t.name: t.label_filename for t in server.config.output}
    assert label_files["scores"] == ("labels.txt" if made.labels else "")
    assert {name for name, file in label_files.items() if file} <= {"scores"}


def test_the_client_of_the_documentation(tmp_path, capsys, monkeypatch):
    server = served(tmp_path, HandMade())
    lines = (tmp_path / "repo/net/labels.txt").read_text(encoding="utf-8").splitlines()
    stored = {p.key: {"string_value": p.value.string_value} for p in server.config.parameters}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            assert self.path == "/v2/models/net/config"
            self.reply({"name": "net", "parameters": stored})

        def do_POST(self):
            assert self.path == "/v2/models/net/infer"
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.reply(server.answer(json.loads(body), lines))

        def reply(self, document):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(document).encode())

        def log_message(self, *_):
            pass

    Image.fromarray(RNG.integers(0, 256, (40, 60, 3), np.uint8)).save(tmp_path / "p.png")
    page = (REPOSITORY / "docs" / "servers.md").read_text(encoding="utf-8")
    code = page.partition("```python\n")[2].partition("```")[0]
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        model = f"http://127.0.0.1:{http.server_port}/v2/models/net"
        words = ["client.py", str(tmp_path / "p.png"), model, str(tmp_path / "o.png")]
        monkeypatch.setattr(sys, "argv", words)
        exec(compile(code, "servers.md", "exec"), {})
        http.shutdown()
    result = Engine(HandMade().bytes()).explain(tmp_path / "p.png")
    painted = np.asarray(Image.open(tmp_path / "o.png")).astype(int)
    assert np.abs(painted - result.overlay().astype(int)).max() <= 1
    first = capsys.readouterr().out.splitlines()[-3].split(":")
    assert (int(first[1]), first[2]) == (result.target, result.label)


def test_requests_that_the_server_puts_together_get_what_they_get_alone(tmp_path):
    server = served(tmp_path, HandMade())
    requests = [{"picture": picture_of(HandMade(), n), "cam_target": np.full((n, 1), n)}
                for n in (1, 3, 2)]  # fmt: skip
    whole = {k: np.concatenate([r[k] for r in requests]) for k in requests[0]}
    together, first = server.infer(whole), 0
    for request in requests:
        count = len(request["picture"])
        for name, alone in server.infer(request).items():
            part = together[name][first : first + count]
            np.testing.assert_allclose(part, alone, rtol=1e-5, atol=1e-5, err_msg=name)
        first += count


def test_labels_and_contract_go_with_it(tmp_path):
    server = served(tmp_path, HandMade())
    lines = (tmp_path / "repo/net/labels.txt").read_text(encoding="utf-8").splitlines()
    assert lines == list(LABELS)
    text = next(p.value.string_value for p in server.config.parameters if p.key == "onnxcam")
    assert Contract.loads(text) == HandMade().contract()


def test_a_label_of_several_lines_stays_one(tmp_path):
    labels = ("a\nb", "", 'quo"ted\\', "größe\tx", "猫")
    server = served(tmp_path, HandMade(labels=labels))
    text = (tmp_path / "repo/net/labels.txt").read_text(encoding="utf-8")
    assert text.split("\n")[:-1] == ["a b", "", 'quo"ted\\', "größe x", "猫"]
    stored = next(p.value.string_value for p in server.config.parameters if p.key == "onnxcam")
    assert Contract.loads(stored).labels == labels


def test_options(tmp_path):
    words = ("--max-batch-size", 32, "--instances", 3, "--gpu", "--name", "a.b-c_1")
    (tmp_path / "x.onnx").write_bytes(HandMade().bytes())
    assert command(tmp_path / "x.onnx", "-o", tmp_path / "r", *words) == 0
    config = Server(tmp_path / "r" / "a.b-c_1").config
    assert config.max_batch_size == 32
    (group,) = config.instance_group
    assert (group.count, group.kind) == (3, 1)  # KIND_GPU
    (tmp_path / "y.onnx").write_bytes(HandMade().bytes())
    assert command(tmp_path / "y.onnx", "-o", tmp_path / "r", "--max-batch-size", 0) == 0
    config = Server(tmp_path / "r" / "y").config
    assert (config.max_batch_size, list(config.input[1].dims)) == (0, [-1])
    assert not config.HasField("dynamic_batching")


def test_an_open_axis_that_is_not_the_batch_is_no_batch(tmp_path, capsys):
    model = HandMade().model()
    model.graph.node.append(helper.make_node("NonZero", ["scores"], ["places"]))
    model.graph.node.append(helper.make_node("Transpose", ["places"], ["found"], perm=[1, 0]))
    model.graph.output.append(helper.make_tensor_value_info("found", TensorProto.INT64, ["M", 2]))
    onnx.save(model, tmp_path / "net.onnx")
    assert command(tmp_path / "net.onnx", "-o", tmp_path / "repo") == 0
    assert "output 'found' is not one an image" in capsys.readouterr().out
    config = Server(tmp_path / "repo/net").config
    assert (config.max_batch_size, list(config.output[-1].dims)) == (0, [-1, 2])


def test_weights_in_another_file_go_with_it(tmp_path):
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    model = HandMade().model()
    tensors = {t.name: t for t in model.graph.initializer}
    for name, file in (
        ("dense", "deep/er.bin"),
        ("kernel", "weights.bin"),
        ("bias", "weights.bin"),
    ):
        tensor, place = tensors[name], source / file
        start = place.stat().st_size if place.exists() else 0
        with place.open("ab") as stream:
            stream.write(tensor.raw_data)
        onnx.external_data_helper.set_external_data(tensor, file, start, len(tensor.raw_data))
        tensor.ClearField("raw_data")
    (source / "net.onnx").write_bytes(model.SerializeToString())
    assert sorted(map(str, external_files(source / "net.onnx"))) == ["deep/er.bin", "weights.bin"]
    assert command(source / "net.onnx", "-o", tmp_path / "repo") == 0
    server = Server(tmp_path / "repo/net")
    request = {"picture": picture_of(HandMade(), 1), "cam_target": np.array([[2]])}
    expected = HandMade().forward(request["picture"])[1]
    np.testing.assert_allclose(server.infer(request)["scores"], expected, rtol=1e-4)


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "a/../../secret"])
def test_weights_outside_of_the_folder_are_refused(tmp_path, location):
    model = HandMade().model()
    tensor = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, location)
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="outside of its folder"):
        external_files(path)


def test_no_prefix_of_a_file_is_mistaken_for_a_whole_one_or_crashes(tmp_path):
    content = HandMade().bytes()
    path = tmp_path / "cut.onnx"
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        try:
            assert external_files(path) == []
        except ModelError as error:
            assert "truncated" in str(error)  # noqa: PT017  # either is right
    path.write_bytes(b"\x3a\x02\x2a\x00" + b"\xff" * 40)
    with pytest.raises(ModelError, match="truncated"):
        external_files(path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--name", "../up"], "name: expected letters"),
        (["--name", ""], "name: expected letters"),
        (["--name", ".hidden"], "name: expected letters"),
        (["--max-batch-size", "-1"], "max batch size: expected a whole number of at least 0"),
        (["--instances", "0"], "instances: expected a whole number of at least 1"),
        (["--name", "taken"], "exists; choose another name"),
    ],
)
def test_bad_options_are_one_line_and_leave_nothing(tmp_path, capsys, words, message):
    (tmp_path / "net.onnx").write_bytes(HandMade().bytes())
    (tmp_path / "repo" / "taken").mkdir(parents=True)
    assert command(tmp_path / "net.onnx", "-o", tmp_path / "repo", *words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and message in err
    assert [p.name for p in (tmp_path / "repo").iterdir()] == ["taken"]


@pytest.mark.parametrize("bad", ["empty", "cut", "text", "plain", "fixed", "missing", "file repo"])
def test_bad_files_are_one_line_and_leave_nothing(tmp_path, capsys, bad):
    content = {
        "empty": b"", "cut": HandMade().bytes()[:400], "text": b"hello",
        "plain": HandMade(with_contract=False).bytes(), "fixed": HandMade(batch=1).bytes(),
    }.get(bad, HandMade().bytes())  # fmt: skip
    model, repo = tmp_path / "net.onnx", tmp_path / "repo"
    model.write_bytes(content)
    if bad == "missing":
        model.unlink()
    if bad == "file repo":
        repo.write_text("a file")
    options = ["--max-batch-size", "4"] if bad == "fixed" else []
    assert command(model, "-o", repo, *options) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("onnxcam serve-config: ")
    assert repo.is_file() if bad == "file repo" else not repo.exists()


def test_a_full_disk_leaves_nothing(tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    (tmp_path / "net.onnx").write_bytes(HandMade().bytes())
    assert command(tmp_path / "net.onnx", "-o", tmp_path / "repo") == 2
    assert "No space left" in capsys.readouterr().err
    assert not (tmp_path / "repo").exists()


def test_names_of_files(tmp_path):
    names = {"resnet50.cam.onnx": "resnet50", "größe 2.onnx": "gr__e_2", ".onnx": "model"}
    for file, name in names.items():
        assert default_name(tmp_path / file) == name


@pytest.mark.parametrize("text", ['a "b" \\ c', "tab\there\n", "größe 猫 \x7f\x01", ""])
def test_text_comes_back_from_protobufs_parser(text):
    assert parse(f"name: {quoted(text)}").name == text


def test_types_that_are_not_served(tmp_path):
    from onnxcam.model import Model
    from onnxcam.serving.triton import configure
    from onnxcam.session import Session

    model = HandMade().model()
    strings = helper.make_tensor("s", TensorProto.STRING, [1], [b"x"])
    model.graph.node.append(helper.make_node("Constant", [], ["words"], value=strings))
    model.graph.output.append(helper.make_tensor_value_info("words", TensorProto.STRING, [1]))
    loaded = Model(Session(model.SerializeToString()), None)
    with pytest.raises(ModelError, match="'words' is of a type that is not served"):
        configure(loaded, "net")
    with pytest.raises(InputError, match="max batch size"):
        configure(loaded, "net", max_batch_size=True)


def test_tritons_own_message_reads_it(tmp_path):
    message = real_model_config()
    if message is None:
        pytest.skip("the package tritonclient, which holds model_config.proto, is not installed")
    for number, made in enumerate(VARIANTS):
        folder = tmp_path / str(number)
        folder.mkdir()
        served(folder, made)
        text = (folder / "repo/net/config.pbtxt").read_text(encoding="utf-8")
        config, mine = text_format.Parse(text, message()), parse(text)
        assert [list(t.dims) for t in config.output] == [list(t.dims) for t in mine.output]
        assert [t.data_type for t in config.input] == [t.data_type for t in mine.input]
        assert config.instance_group[0].kind == mine.instance_group[0].kind
        assert config.parameters["onnxcam"].string_value
        assert CLASSES in list(config.output[0].dims)
