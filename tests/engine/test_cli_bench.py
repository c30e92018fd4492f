from __future__ import annotations

import argparse
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.utils import Extractor
from PIL import Image

from helpers_explaining import SIDE, HandMade
from onnxcam import Engine
from onnxcam.cli import bench as subcommand
from onnxcam.cli import bench_roads, main, timing
from onnxcam.contract import METADATA_KEY, Contract, Layer, Output, Picture

SMALL = HandMade()
PLAIN_ROADS = [
    "plain",
    "explaining",
    "post-processing",
    "array in, map out",
    "overlay",
    "picture in, overlay out",
]


def plain_of(made: HandMade) -> onnx.ModelProto:
    """The model without its explanation, cut out by onnx."""
    return Extractor(made.model()).extract_model(["picture"], ["scores"])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.onnx").write_bytes(SMALL.bytes())
    onnx.save(plain_of(SMALL), "plain.onnx")
    Image.fromarray(np.full((9, 12, 3), 90, np.uint8)).save("a.png")
    return tmp_path


def bench(*words: str) -> int:
    return main(["bench", "model.onnx", "--seconds", "0.01", *words])


def document_of(capsys, *words: str) -> dict:
    assert bench("--json", *words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def failed(capsys, message: str, *words: str) -> None:
    assert bench(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("onnxcam bench: ")
    assert err.count("\n") == 1
    assert message in err


class Clock:
    """A clock that only moves when a function says how long it has taken."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    def road(self, name: str, durations: list[float]):
        taken = iter(durations)

        def run() -> None:
            self.log.append(name)
            self.now += next(taken)

        return run


def test_interleaved(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock.now)
    warm_up = [100.0, 100.0]
    roads = {
        "a": clock.road("a", [*warm_up, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5]),
        "b": clock.road("b", [*warm_up, 0, 10, 0, 20, 0, 30, 0, 40, 0, 50]),
    }
    times = timing.interleaved(roads, seconds=100, least=3)  # 11, 33, 66, 110: four rounds
    assert "".join(clock.log) == "abab" + "aabbbbaaaabbbbaa"
    np.testing.assert_allclose(times["a"], [1, 2, 3, 4])
    np.testing.assert_allclose(times["b"], [10, 20, 30, 40])


def test_interleaved_makes_a_least_number_of_rounds(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock.now)
    times = timing.interleaved({"a": clock.road("a", [9.0] * 30)}, seconds=1, least=6)
    assert len(times["a"]) == 6


def test_percentiles_and_quartiles():
    seconds = np.random.default_rng(3).permutation(np.arange(101) / 1000)
    found = timing.percentiles(seconds)
    assert found == pytest.approx({"p50": 50, "p90": 90, "p99": 99})
    found = timing.quartiles(np.array([4.0, 0.0, 2.0, 1.0, 3.0]))
    assert found == {"median": 2, "lower": 1, "upper": 3}


def test_json(folder, capsys):
    document = document_of(capsys, "--plain", "plain.onnx", "--threads", "1", "--batch", "3")
    assert list(document["milliseconds"]) == PLAIN_ROADS
    for found in document["milliseconds"].values():
        assert 0 < found["p50"] <= found["p90"] <= found["p99"]
    assert list(document["ratios"]) == [
        "explaining / plain",
        "array in, map out / plain",
        "array in, map out / explaining",
    ]
    for found in document["ratios"].values():
        assert 0 < found["lower"] <= found["median"] <= found["upper"]
    assert document["input"] == f"float32 [3, 3, {SIDE}, {SIDE}]"
    assert (document["threads"], document["method"]) == (1, "gradcam")
    assert document["layer"] == "features.relu"
    assert document["rounds"] >= 5
    assert document["note"] is None
    assert document["machine"]["providers"] == ["CPU"]
    assert document["machine"]["cores"] >= 1


def test_without_the_plain_file_it_says_what_it_compares_with(folder, capsys):
    document = document_of(capsys)
    assert "plain" not in document["milliseconds"]
    assert "explaining / own outputs only" in document["ratios"]
    assert "is not the plain model" in document["note"]


def test_table(folder, capsys):
    assert bench("--plain", "plain.onnx", "--picture", "a.png", "--method", "layercam") == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert "onnxruntime" in lines[0] and "(CPU)" in lines[0]
    assert "layercam" in lines[1] and lines[1].endswith("picture 12x9")
    start = lines.index("") + 1
    assert lines[start].split() == ["milliseconds", "p50", "p90", "p99"]
    rows = lines[start + 1 : start + 1 + len(PLAIN_ROADS)]
    assert [row[: row.index("  ")] for row in rows] == PLAIN_ROADS
    assert len({len(row) for row in rows}) == 1  # aligned
    assert "is not the plain model" not in out


KINDS = {
    "several targets": HandMade(targets="several"),
    "no target": HandMade(targets="none"),
    "weights": HandMade(emit="weights"),
    "heatmap": HandMade(emit="heatmap"),
    "channels last, uint8": HandMade(layout="NHWC", dtype="uint8"),
    "batch of two": HandMade(batch=2),
    "no preprocessing": HandMade(preprocess=None),
    "probability": HandMade(kind="softmax", score="probability"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file(kind, folder, capsys):
    made = KINDS[kind]
    (folder / "model.onnx").write_bytes(made.bytes())
    document = document_of(capsys)
    found = list(document["milliseconds"])
    expected = ["own outputs only", *PLAIN_ROADS[1:]]
    assert found == (expected if made.preprocess else expected[:-1])


def roads_of(*words: str) -> bench_roads.Bench:
    parser = argparse.ArgumentParser()
    subcommand.add_arguments(parser)
    return bench_roads.Bench(parser.parse_args(["model.onnx", *words]))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_timed_is_the_whole_work(kind, folder):
    (folder / "model.onnx").write_bytes(KINDS[kind].bytes())
    made = roads_of("--threads", "1")
    expected = Engine("model.onnx", threads=1).maps(made.tensor)
    assert expected.max() > 0
    np.testing.assert_array_equal(made.roads["array in, map out"](), expected)
    finished = made.roads["post-processing"]().finished
    np.testing.assert_array_equal(finished.reshape(expected.shape), expected)
    explaining, own = made.roads["explaining"](), made.roads["own outputs only"]()
    assert set(own) == {"scores"}
    assert {"scores"} < set(explaining)
    painted = made.roads["overlay"]()
    assert (painted != made.picture).any()
    if "picture in, overlay out" in made.roads:
        overlays = made.roads["picture in, overlay out"]()
        assert [each.shape for each in overlays] == [made.picture.shape] * len(made.tensor)


def test_the_picture_is_what_runs(folder):
    made = roads_of("--picture", "a.png", "--batch", "2", "--plain", "plain.onnx")
    np.testing.assert_allclose(made.tensor, 90 / 255, rtol=1e-6)
    assert made.tensor.shape == (2, 3, SIDE, SIDE)
    _, logits = SMALL.forward(made.tensor)
    np.testing.assert_allclose(made.roads["plain"]()["scores"], logits, rtol=1e-4)


def test_an_input_of_ones_own(folder, capsys):
    np.save("x.npy", np.full((4, 3, SIDE, SIDE), 0.25, np.float32))
    made = roads_of("--input", "picture=x.npy")
    assert made.tensor.shape[0] == 4
    assert (made.tensor == 0.25).all()
    words = ("--input", "picture=x.npy")
    failed(capsys, "--batch 3", *words, "--batch", "3")
    failed(capsys, "leave out --picture", *words, "--picture", "a.png")
    np.save("x.npy", np.zeros((4, 3, SIDE, SIDE + 1), np.float32))
    failed(capsys, f"got float32 [4, 3, {SIDE}, {SIDE + 1}]", *words)


def test_a_sequence_of_open_length(folder, capsys):
    nodes = [
        helper.make_node("ReduceMax", ["signal", "channels"], ["cam_heatmap"], keepdims=0),
        helper.make_node("ReduceMean", ["signal", "time"], ["scores"], keepdims=0),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "sequence",
            [helper.make_tensor_value_info("signal", TensorProto.FLOAT, ["N", 3, "L"])],
            [
                helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 3]),
                helper.make_tensor_value_info("cam_heatmap", TensorProto.FLOAT, ["N", "L"]),
            ],
            [
                onnx.numpy_helper.from_array(np.array([1]), "channels"),
                onnx.numpy_helper.from_array(np.array([2]), "time"),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )
    contract = Contract(
        (Layer("signal"),),
        Output("scores", "raw"),
        Picture("signal", "float32", "NCHW"),
        emit="heatmap",
    )
    helper.set_model_props(model, {METADATA_KEY: contract.dumps()})
    onnx.save(model, "model.onnx")
    failed(capsys, "give --input signal=FILE.npy")
    np.save("x.npy", np.ones((1, 3, 20), np.float32))
    document = document_of(capsys, "--input", "signal=x.npy")
    assert list(document["milliseconds"]) == ["own outputs only", *PLAIN_ROADS[1:4]]
    assert document["picture"] is None


def test_another_model_is_not_the_plain_one(folder, capsys):
    onnx.save(plain_of(SMALL.but(seed=36)), "other.onnx")
    failed(capsys, "'other.onnx' is another model: its output 'scores'", "--plain", "other.onnx")
    onnx.save(plain_of(SMALL.but(layout="NHWC")), "other.onnx")
    failed(capsys, "expected float32 [any, 6, 6, 3]", "--plain", "other.onnx")
    renamed = plain_of(SMALL)
    renamed.graph.output[0].name = renamed.graph.node[-1].output[0] = "otherwise"
    onnx.save(renamed, "other.onnx")
    failed(capsys, "shares no output with the explaining file", "--plain", "other.onnx")


def test_a_plain_file_whose_input_is_called_otherwise(folder, capsys):
    renamed = plain_of(SMALL)
    renamed.graph.input[0].name = renamed.graph.node[0].input[0] = "pixels"
    onnx.save(renamed, "plain.onnx")
    assert "plain" in document_of(capsys, "--plain", "plain.onnx")["milliseconds"]


def test_bad_input(folder, capsys):
    failed(capsys, "--seconds: expected more than 0", "--seconds", "0")
    failed(capsys, "--seconds: expected more than 0", "--seconds", "nan")
    failed(capsys, "--batch 0: expected at least 1", "--batch", "0")
    failed(capsys, "threads: expected", "--threads", "0")
    failed(capsys, "method 'gradcan' is unknown", "--method", "gradcan")
    failed(capsys, "provider 'abacus'", "--providers", "abacus")
    failed(capsys, "layer 'x'", "--layer", "x")
    failed(capsys, "'none.onnx': no such file", "--plain", "none.onnx")
    failed(capsys, "'none.png': no such file", "--picture", "none.png")
    failed(capsys, "expected NAME=FILE.npy", "--input", "x")
    (folder / "plain.onnx").replace(folder / "model.onnx")
    failed(capsys, "is not an explaining file")


def test_a_fixed_batch_and_a_file_without_preprocessing(folder, capsys):
    (folder / "model.onnx").write_bytes(HandMade(batch=2, preprocess=None).bytes())
    failed(capsys, "--batch 3: expected 2, which the file has fixed", "--batch", "3")
    failed(capsys, "give --preprocess", "--picture", "a.png")
    assert document_of(capsys)["input"].startswith("float32 [2, ")
