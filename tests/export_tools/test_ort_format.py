"""`.ort`, onnxruntime's own format: made by its converter, run by it and by the engine."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnxruntime as ort
import pytest

from helpers_onnx import small_network
from onnxcam import Engine
from onnxcam.cli import main
from onnxcam.errors import ModelError
from onnxcam_export import from_onnx

PICTURES = np.random.default_rng(8).standard_normal((2, 3, 16, 16)).astype(np.float32)
KINDS = {
    "gradient": {},
    "weights": {"emit": "weights"},
    "two targets": {"targets": 2},
    "early": {"layer": "relu1", "opset": 17},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of every kind and what onnxruntime's converter, run as documented, makes of them."""
    path = tmp_path_factory.mktemp("ort")
    for name, options in KINDS.items():
        preprocess = {"size": [16, 16], "std": [255]}
        labels = ["a", "b", "c", "d", "e"]
        from_onnx(
            small_network(), preprocess=preprocess, labels=labels, output=path / f"{name}.onnx",
            **options,
        )  # fmt: skip
    command = [sys.executable, "-m", "onnxruntime.tools.convert_onnx_models_to_ort", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return path


@pytest.mark.parametrize("style", ["", ".with_runtime_opt"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_results_and_the_contract_kept(folder, kind, style):
    onnx_file, ort_file = folder / f"{kind}.onnx", folder / f"{kind}{style}.ort"
    targets = np.array([[1, -1], [0, 4]]) if kind == "two targets" else np.array([1, -1])
    feed = {"picture": PICTURES, "cam_target": targets}
    results = [
        ort.InferenceSession(str(file), providers=["CPUExecutionProvider"]).run(None, feed)
        for file in (onnx_file, ort_file)
    ]
    for expected, found in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    plain, engine = Engine(onnx_file), Engine(ort_file)
    assert engine.contract == plain.contract
    np.testing.assert_allclose(
        engine.maps(PICTURES, targets), plain.maps(PICTURES, targets), atol=1e-5
    )
    assert engine.labels == ("a", "b", "c", "d", "e")
    content = Engine(ort_file.read_bytes())
    np.testing.assert_array_equal(content.maps(PICTURES, targets), engine.maps(PICTURES, targets))


def test_command_line(folder, tmp_path, capsys):
    from PIL import Image

    pixels = np.random.default_rng(2).integers(0, 256, (30, 40, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    model, out = folder / "gradient.ort", tmp_path / "out.png"
    assert main(["explain", str(model), str(tmp_path / "p.png"), "-o", str(out)]) == 0
    assert Image.open(out).size == (40, 30)
    capsys.readouterr()
    for command in (["serve-config", "triton"], ["export", "onnx"]):
        assert main([*command, str(model), "-o", str(tmp_path / "made")]) == 2
        assert capsys.readouterr().err.count("\n") == 1
        assert not (tmp_path / "made").exists()


def test_a_cut_file(folder, tmp_path):
    content = (folder / "gradient.ort").read_bytes()
    for length in (20, len(content) // 2, len(content) - 8):
        (tmp_path / "cut.ort").write_bytes(content[:length])
        with pytest.raises(ModelError, match="cannot load"):
            Engine(tmp_path / "cut.ort")
