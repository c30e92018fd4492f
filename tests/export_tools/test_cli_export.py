"""`onnxcam export onnx`, `onnxcam inspect` and `--verify`, as commands."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from helpers_onnx import small_network
from onnxcam.cli import main
from onnxcam.contract import METADATA_KEY, Contract
from onnxcam.errors import ExportError


@pytest.fixture
def plain(tmp_path):
    path = tmp_path / "plain.onnx"
    onnx.save(small_network(final="Softmax"), path)
    return path


def contract(path) -> Contract:
    model = onnx.load(path)
    return Contract.loads(next(p.value for p in model.metadata_props if p.key == METADATA_KEY))


def test_export_says_what_it_chose_and_writes_the_contract(plain, tmp_path, capsys):
    labels = tmp_path / "labels.txt"
    labels.write_text("cat\ndog\nbird\nfish\nowl\n")
    out = tmp_path / "out.onnx"
    command = ["export", "onnx", str(plain), "--layer", "conv2", "--score", "probability"]
    command += ["--preprocess", "unit", "--labels", str(labels), "--verify", "-o", str(out)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "layer: conv2 [batch, 6, 8, 8]" in printed
    assert "probability of 'scores', 5 classes, softmax probabilities" in printed
    assert "central differences in float64" in printed
    assert "agrees" in printed
    document = contract(out)
    assert document.labels == ("cat", "dog", "bird", "fish", "owl")
    assert document.layer.tensor == "conv2"
    assert document.score == "probability"
    assert document.picture.preprocess is not None


def test_export_reports_what_it_assumed(tmp_path, capsys):
    path = tmp_path / "plain.onnx"
    onnx.save(small_network(), path)
    assert main(["export", "onnx", str(path), "-o", str(tmp_path / "out.onnx")]) == 0
    captured = capsys.readouterr()
    assert "probabilities by softmax (assumed" in captured.out
    assert "--preprocess" in captured.err


def test_a_json_file_gives_the_preprocessing(plain, tmp_path):
    spec = tmp_path / "preprocess.json"
    document = {
        "color": "BGR", "mean": [1, 2, 3], "std": [4, 5, 6],
        "resize": {"mode": "crop", "shorter_side": 20, "filter": "bicubic"},
    }  # fmt: skip
    spec.write_text(json.dumps(document))
    out = tmp_path / "out.onnx"
    assert main(["export", "onnx", str(plain), "--preprocess", str(spec), "-o", str(out)]) == 0
    preprocess = contract(out).picture.preprocess
    assert preprocess is not None
    assert preprocess.size == (16, 16)
    assert preprocess.mean == (1.0, 2.0, 3.0)
    assert preprocess.resize.shorter_side == 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layer", "conv9"], "did you mean"),
        (["--preprocess", "imagnet"], "imagenet"),
        (["--labels", "nowhere.txt"], "nowhere.txt"),
        (["--input-size", "224"], "such as 3x224x224"),
        (["--grid", "14"], "such as 14x14"),
        (["--grid", "0x14", "--layer", "conv2"], "such as 14x14"),
        (["--grid", "4x4", "--layer", "conv2"], "no sequence of tokens"),
        (["--grid", "4x4"], "name the layer too"),
        (["--activation", "sigmoid"], "ends in Softmax"),
        (["--output-name", "other"], "no output 'other'"),
    ],
)
def test_bad_options_are_one_line_and_exit_code_2(plain, tmp_path, capsys, arguments, message):
    out = tmp_path / "out.onnx"
    before = sorted(tmp_path.iterdir())
    assert main(["export", "onnx", str(plain), *arguments, "-o", str(out)]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("content", [b"", b"hello", b"\x08\x07\x12\x04abcd"])
def test_bad_files_are_one_line_and_exit_code_2(tmp_path, capsys, content):
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    for command in (
        ["export", "onnx", str(path), "-o", str(tmp_path / "o.onnx")],
        ["inspect", str(path)],
    ):
        assert main(command) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_export_onto_its_source_is_refused(plain, capsys):
    before = plain.read_bytes()
    assert main(["export", "onnx", str(plain), "-o", str(plain)]) == 2
    assert "the source itself" in capsys.readouterr().err
    assert plain.read_bytes() == before


def test_inspect_lists_layers_and_marks_the_default(plain, capsys):
    assert main(["inspect", str(plain)]) == 0
    lines = capsys.readouterr().out.splitlines()
    marked = [line for line in lines if line.strip().startswith("*")]
    assert len(marked) == 1
    assert "relu2" in marked[0]
    assert "[batch, 6, 8, 8]" in marked[0]
    assert any("conv1" in line for line in lines)
    assert any("picture  float [batch, 3, 16, 16]" in line for line in lines)


def test_inspect_shows_the_contract(plain, tmp_path, capsys):
    out = tmp_path / "out.onnx"
    assert main(["export", "onnx", str(plain), "--preprocess", "imagenet", "-o", str(out)]) == 0
    capsys.readouterr()
    assert main(["inspect", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "layer       relu2" in printed
    assert "'shorter_side'" in printed


def test_verify_finds_a_wrong_gradient():
    from onnxcam_export.assemble import build
    from onnxcam_export.sources import onnx_file
    from onnxcam_export.verify import verify

    source = onnx_file.capture(small_network())
    built = build(source, layer="conv2")
    assert verify(built, source).error < 1e-5
    wrong = built.model
    node = next(n for n in wrong.graph.node if n.output[0] == "cam_gradient")
    doubled = onnx.helper.make_node("Add", [node.input[0], node.input[0]], ["cam_gradient"])
    node.CopyFrom(doubled)
    with pytest.raises(ExportError, match="DIFFERS"):
        verify(built, source)


def test_verify_steps_over_ties_in_a_max_pool():
    """Zeros behind a ReLU tie in the pool; the derivative there is the first one's."""
    from onnxcam_export.assemble import build
    from onnxcam_export.sources import onnx_file
    from onnxcam_export.verify import verify

    source = onnx_file.capture(small_network())
    result = verify(build(source, layer="relu1"), source)
    assert result.error < 1e-5
    assert np.abs(result.graph).min() > 0
