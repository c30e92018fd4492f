from __future__ import annotations

import numpy as np
import pytest

from helpers_explaining import SIDE, HandMade
from onnxcam.errors import InputError, ModelError
from onnxcam.session import Session, TensorInfo

MODEL = HandMade().bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"this is not a model, only text", "not an ONNX file"),
        (MODEL[: len(MODEL) // 2], "truncated"),
        (MODEL[:-1], "truncated"),
    ],
)
def test_bad_files(tmp_path, capfd, content, message):
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=rf"bad\.onnx.*{message}") as caught:
        Session(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match=message):
        Session(content)
    assert capfd.readouterr() == ("", "")


def test_missing_and_folder(tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        Session(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="is a folder"):
        Session(tmp_path)


def test_providers_and_threads():
    assert Session(MODEL).providers == ["CPUExecutionProvider"]
    for name in ("cpu", ["CPU"], ["CPUExecutionProvider"], [("cpu", {})]):
        assert Session(MODEL, providers=name).providers == ["CPUExecutionProvider"]
    with pytest.raises(ModelError, match=r"'warp' is not in this onnxruntime; it has .*cpu"):
        Session(MODEL, providers=["warp"])
    Session(MODEL, threads=1)
    for wrong in (0, -1, 1.5, True, "2"):
        with pytest.raises(ModelError, match="threads"):
            Session(MODEL, threads=wrong)


def test_run_says_what_failed(capfd):
    session = Session(MODEL)
    feeds = {
        "picture": np.zeros((2, 3, SIDE, SIDE), np.float32),
        "cam_target": np.array([0, 99]),
    }
    with pytest.raises(ModelError, match="running the model failed: ") as caught:
        session.run(feeds, ["cam_gradient"])
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


INFO = TensorInfo("x", (None, 3, 2, 2), np.dtype(np.float32))


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (np.zeros((1, 3, 2, 2)), r"input 'x': expected float32 \[any, 3, 2, 2\], got float64"),
        (np.zeros((3, 2, 2), np.float32), r"got float32 \[3, 2, 2\]"),
        (np.zeros((1, 2, 2, 3), np.float32), r"\[1, 2, 2, 3\]"),
        (np.zeros((0, 3, 2, 2), np.float32), "empty"),
        (np.full((1, 3, 2, 2), np.nan, np.float32), "NaN or infinite"),
        (np.full((1, 3, 2, 2), -np.inf, np.float32), "NaN or infinite"),
        (np.array([np.inf, -np.inf, 0] * 4, np.float32).reshape(1, 3, 2, 2), "NaN or infinite"),
        ([[1.0]], "got list"),
    ],
)
def test_check(tensor, message):
    with pytest.raises(InputError, match=message):
        INFO.check(tensor)


def test_check_accepts():
    INFO.check(np.zeros((5, 3, 2, 2), np.float32))
    INFO.check(np.full((5, 3, 2, 2), 3e38, np.float32))  # the sum is infinite
    half = TensorInfo("x", (None,), np.dtype(np.float16))
    half.check(np.full(5, 6e4, np.float16))
