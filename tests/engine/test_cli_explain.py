from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from helpers_explaining import LABELS, HandMade
from onnxcam import Engine
from onnxcam.cli import main

PHOTO = np.random.default_rng(8).integers(0, 256, (40, 50, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a model and pictures."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.onnx").write_bytes(HandMade(weight_scale=0.2).bytes())
    for i, name in enumerate(("a.png", "b.png", "sub/a.png", "sub/A.bmp")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.roll(PHOTO, i, axis=1)).save(tmp_path / name)
    (tmp_path / "bad.png").write_bytes((tmp_path / "a.png").read_bytes()[:900])
    return tmp_path


def explain(*words: str) -> int:
    return main(["explain", "model.onnx", *words])


def new_files(folder) -> set[str]:
    given = {"model.onnx", "a.png", "b.png", "sub/a.png", "sub/A.bmp", "bad.png"}
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    return found - given


def failed(capsys, words, message) -> None:
    assert explain(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("onnxcam explain: ")
    assert err.count("\n") == 1
    assert message in err


def test_one_picture(folder, capsys):
    assert explain("a.png") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert new_files(folder) == {"a.cam.png"}
    result = Engine("model.onnx").explain("a.png")
    np.testing.assert_array_equal(np.asarray(Image.open("a.cam.png")), result.overlay())
    lines = out.splitlines()
    assert lines[0] == "a.png"
    assert lines[1].split() == ["index", "synset", "label", "probability"]
    rows = lines[2:7]
    assert lines[7:] == ["  -> a.cam.png"]
    assert [int(row.replace("*", "").split()[0]) for row in rows] == np.argsort(
        -result.scores
    ).tolist()
    assert [("*" in row) for row in rows] == [True, False, False, False, False]
    assert len({len(row) for row in rows}) == 1  # aligned
    retriever = next(row for row in rows if "golden retriever" in row)
    assert "n02099601" in retriever
    assert f"{100 * result.probabilities[1]:.2f} %" in retriever


def test_target_by_name_marks_its_row(folder, capsys):
    assert explain("a.png", "--target", "golden retriever", "-o", "x.png") == 0
    (row,) = (line for line in capsys.readouterr().out.splitlines() if "*" in line)
    assert "golden retriever" in row
    assert explain("a.png", "--target", "-1") == 0
    capsys.readouterr()
    failed(capsys, ["a.png", "--target", "crane"], "names several classes: 2 (crane), 3 (crane)")
    failed(capsys, ["a.png", "--target", "5"], "expected 0 to 4")
    failed(capsys, ["a.png", "--target", "retreiver"], "golden retriever")


def test_json(folder, capsys):
    words = ("a.png", "b.png", "--json", "--save-map", "-o", "out", "--method", "hirescam")
    assert explain(*words) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["model"] == "model.onnx"
    assert document["layer"] == "features.relu"
    first, second = document["pictures"]
    assert second["picture"] == "b.png"
    assert first["overlay"] == os.path.join("out", "a.cam.png")
    assert first["map"] == os.path.join("out", "a.cam.npy")
    result = Engine("model.onnx").explain("a.png", method="hirescam")
    np.testing.assert_array_equal(np.load(first["map"]), result.heatmap)
    assert (first["width"], first["height"], first["seen"]) == (50, 40, [0, 0, 50, 40])
    assert (first["target"], first["label"]) == (result.target, result.label)
    assert first["probability"] == pytest.approx(result.probability)
    assert [each["index"] for each in first["top"]] == np.argsort(-result.scores).tolist()
    assert [each["chosen"] for each in first["top"]] == [True, False, False, False, False]
    assert first["diagnosis"]["reason"] is None
    assert first["method"] == "hirescam"


def test_painting_options(folder):
    result = Engine("model.onnx").explain("a.png")
    cases = [
        (["--alpha", "0.7", "--colormap", "viridis"], result.overlay(0.7, "viridis")),
        (["--preset", "signed"], result.overlay(preset="signed")),
        (["--blend", "contours"], result.overlay(blend="contours")),
        (
            ["--blend", "heat", "--interpolation", "bicubic"],
            result.overlay(blend="heat", interpolation="bicubic"),
        ),
        (["--figure"], np.asarray(result.figure())),
    ]
    for words, expected in cases:
        assert explain("a.png", *words, "-o", "x.png") == 0
        np.testing.assert_array_equal(np.asarray(Image.open("x.png")), expected)


def test_several_pictures_of_one_name(folder, capsys):
    assert explain("a.png", "sub/a.png", "sub/A.bmp", "-o", "new/out") == 0
    assert new_files(folder) == {
        "new/out/a.cam.png",
        "new/out/a-2.cam.png",
        "new/out/A-3.cam.png",
    }
    expected = Engine("model.onnx").explain("sub/a.png").overlay()
    np.testing.assert_array_equal(np.asarray(Image.open("new/out/a-2.cam.png")), expected)


def test_a_folder_for_one_picture(folder):
    assert explain("a.png", "-o", "sub") == 0
    assert explain("a.png", "-o", "made/") == 0
    assert new_files(folder) == {"sub/a.cam.png", "made/a.cam.png"}


@pytest.mark.parametrize("as_json", [False, True])
def test_a_bad_picture_among_good_ones(folder, capsys, as_json):
    words = ["a.png", "bad.png", "none.png", "b.png", "-o", "out", *["--json"] * as_json]
    assert explain(*words) == 2
    out, err = capsys.readouterr()
    assert new_files(folder) == {"out/a.cam.png", "out/b.cam.png"}
    lines = err.splitlines()
    assert len(lines) == 2
    assert "'bad.png'" in lines[0]
    assert "'none.png': no such file" in lines[1]
    if as_json:
        pictures = json.loads(out)["pictures"]
        assert [each["picture"] for each in pictures] == ["a.png", "bad.png", "none.png", "b.png"]
        assert ["error" in each for each in pictures] == [False, True, True, False]
    else:
        assert out.count("-> out") == 2


def test_bad_input_is_one_line_and_leaves_nothing(folder, capsys):
    shutil.copy("a.png", "picture.png")
    cases = [
        (["bad.png"], "'bad.png'"),
        (["none.png"], "no such file"),
        (["a.png", "-o", "x.xyz"], "no picture format"),
        (["a.png", "-o", "none/x.png"], "no such folder"),
        (["a.png", "-o", "a.png"], "would overwrite an input"),
        (["a.png", "-o", "./sub/../a.png"], "would overwrite an input"),
        (["a.png", "b.png", "-o", "picture.png"], "several pictures need a folder"),
        (["a.png", "--method", "cam"], "method 'cam' is unknown"),
        (["a.png", "--colormap", "rainbow"], "rainbow"),
        (["a.png", "--preset", "nice"], "preset 'nice'"),
        (["a.png", "--alpha", "2"], "alpha"),
        (["a.png", "--preprocess", "nope"], "neither a preset"),
        (["a.png", "--labels", "none.txt"], "cannot read"),
        (["a.png", "--providers", "warp"], "provider 'warp'"),
        (["a.png", "--threads", "0"], "threads"),
    ]
    for words, message in cases:
        failed(capsys, words, message)
    assert new_files(folder) == {"picture.png"}
    for model in ("a.png", "none.onnx", "sub"):
        assert main(["explain", model, "a.png", "-o", "x.png"]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_link_to_an_input_is_not_overwritten(folder, capsys):
    os.symlink("a.png", "link.png")
    failed(capsys, ["a.png", "-o", "link.png"], "would overwrite an input")


def test_the_model_is_not_overwritten(folder, capsys):
    shutil.copy("model.onnx", "a.cam.npy")
    assert main(["explain", "a.cam.npy", "a.png", "--save-map"]) == 2
    assert "would overwrite an input" in capsys.readouterr().err


def test_a_map_that_says_nothing(folder, capsys):
    made = HandMade()
    made.weights["dense"][1] = 0
    (folder / "model.onnx").write_bytes(made.bytes())
    assert explain("a.png", "--target", "1") == 0
    assert "no map (zero_gradient): the gradient is zero everywhere" in capsys.readouterr().out


def test_nan_is_null_in_json(folder, capsys):
    made = HandMade()
    made.weights["dense"][:] = np.nan
    (folder / "model.onnx").write_bytes(made.bytes())
    assert explain("a.png", "--json") == 0
    (picture,) = json.loads(capsys.readouterr().out)["pictures"]
    assert picture["probability"] is None
    assert picture["diagnosis"]["minimum"] is None
    assert picture["diagnosis"]["reason"] == "non_finite"


def test_table_without_labels_and_probabilities(folder, capsys):
    made = HandMade(labels=None, kind="raw", activation=None)
    (folder / "model.onnx").write_bytes(made.bytes())
    assert explain("a.png") == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["index", "score"]


def test_own_labels_and_preprocessing(folder, capsys):
    (folder / "names.txt").write_text("\n".join(reversed(LABELS)))
    (folder / "how.json").write_text(json.dumps({"scale": 0.001, "resize": {"filter": "nearest"}}))
    words = ["a.png", "--labels", "names.txt", "--preprocess", "how.json", "--json"]
    assert explain(*words) == 0
    (picture,) = json.loads(capsys.readouterr().out)["pictures"]
    expected = Engine("model.onnx", preprocess="how.json").explain("a.png")
    assert picture["probability"] == pytest.approx(expected.probability)
    assert picture["top"][-1]["label"] is not None
