"""`onnxcam demo`, end to end."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from PIL import Image

import onnxcam_models
from onnxcam.cli import main
from onnxcam_models import drawing, scenes

FILES = [
    "digits-in-clutter.cam.onnx",
    "digits-in-clutter.png",
    "mnist-style.cam.onnx",
    "one-seven-nine.png",
    "scene.png",
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo in a fresh process, and what it had imported at its end."""
    folder = tmp_path_factory.mktemp("demo") / "new folder"
    code = (
        "import sys; from onnxcam.cli import main; code = main(sys.argv[1:]);"
        "unwanted = {'torch', 'sklearn', 'keras', 'matplotlib', 'cv2'};"
        "print('imported', sorted(unwanted & set(sys.modules)));"
        "sys.exit(code)"
    )
    arguments = [sys.executable, "-c", code, "demo", "-o", str(folder), "--seed", "5"]
    return folder, subprocess.run(arguments, capture_output=True, text=True, check=False)


def test_it_ends_well_and_leaves_its_files(demo):
    folder, done = demo
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(x.name for x in folder.iterdir()) == FILES
    for name in FILES:
        if name.endswith(".onnx"):
            onnx.checker.check_model(folder / name, full_check=True)


def test_it_says_what_it_did_and_needs_no_training_framework(demo):
    folder, done = demo
    assert "imported []" in done.stdout
    for text in ("export ", "start the engine", "(the first call)", " ms", "onnxcam explain"):
        assert text in done.stdout
    for name in FILES:
        assert str(folder / name) in done.stdout


def test_the_scene_is_the_seeds_scene_and_its_maps_point(demo):
    folder, done = demo
    scene = scenes.compose(np.random.default_rng(5), *scenes.unseen_handwriting())
    assert np.array_equal(np.asarray(Image.open(folder / "scene.png")), scene.picture)
    there = len(scene.digits)
    assert f"inside the digit's box for {there} of {there} digits" in done.stdout


def test_the_figure_shows_the_scene_and_heat_in_the_boxes(demo):
    """Of every tile: the reddest pixel, drawn from JET's upper end, lies in the digit's box."""
    folder, _ = demo
    scene = scenes.compose(np.random.default_rng(5), *scenes.unseen_handwriting())
    with Image.open(folder / "digits-in-clutter.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    step = drawing.SIDE + drawing.GAP
    top = drawing.GAP // 2 + drawing.TITLE
    for i, digit in enumerate(scene.digits, start=1):
        left = drawing.GAP + i * step
        tile = pixels[top : top + drawing.SIDE, left : left + drawing.SIDE]
        warm = tile[..., 0] - tile[..., 2]
        y, x = np.unravel_index(warm.argmax(), warm.shape)
        (box,) = (box for box in scene.boxes if box.digit == digit)
        assert box.contains(x * 96 / drawing.SIDE, y * 96 / drawing.SIDE), digit


def test_the_commands_it_proposes_work(demo, tmp_path, capsys):
    """The first as printed; the two for an own model with the shipped file in their places."""
    folder, done = demo
    commands = [line.strip() for line in done.stdout.splitlines() if "  onnxcam " in line]
    assert [x.split()[1] for x in commands] == ["explain", "export", "explain"]
    place = str(folder)
    words = [x.replace(place, "DIR").split()[1:] for x in commands]
    replace = {
        "your-model.onnx": str(onnxcam_models.path("mnist-style")),
        "your-model.cam.onnx": str(tmp_path / "own.cam.onnx"),
        "your-photo.jpg": str(folder / "scene.png"),
        "explained.png": str(tmp_path / "explained.png"),
        "imagenet": str(tmp_path / "grey.json"),
        "DIR/layercam.png": str(tmp_path / "layercam.png"),
    }
    preprocess = onnxcam_models.network("mnist-style").preprocess
    (tmp_path / "grey.json").write_text(json.dumps(preprocess.to_json()))
    for command in words:
        arguments = [replace.get(word, word.replace("DIR", place)) for word in command]
        assert main(arguments) == 0, capsys.readouterr().err
    with (
        Image.open(tmp_path / "layercam.png") as one,
        Image.open(tmp_path / "explained.png") as two,
    ):
        assert min(one.width, two.width) > 400


def test_bad_input_is_one_line_and_code_2(tmp_path, capsys):
    assert main(["demo", "-o", str(tmp_path / "x"), "--seed", "-1"]) == 2
    (tmp_path / "file").write_text("in the way")
    assert main(["demo", "-o", str(tmp_path / "file")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert "--seed" in errors[0]
    assert str(tmp_path / "file") in errors[1]
    assert not (tmp_path / "x").exists()


def test_without_onnx_it_names_the_extra(tmp_path):
    code = (
        "import sys; sys.modules['onnx'] = None; from onnxcam.cli import main;"
        "sys.exit(main(sys.argv[1:]))"
    )
    arguments = [sys.executable, "-c", code, "demo", "-o", str(tmp_path / "x")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'onnxcam[export]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_tile_is_the_enlarged_picture_under_its_title_with_boxes():
    picture = np.full((96, 96), 90, np.uint8)
    tile = np.asarray(drawing.tile(picture, "title", boxes=[scenes.Box(4, 32, 32, 64, 64)]))
    assert tile.shape == (drawing.TITLE + drawing.SIDE, drawing.SIDE, 3)
    assert (tile[: drawing.TITLE] < 128).any(), "no title"
    body = tile[drawing.TITLE :]
    assert (body[96:192, 96] == 255).all(), "no left edge"
    assert (body[96:192, 191] == 255).all(), "no right edge"
    assert (body[110:180, 110:180] == 90).all()
    sheet = drawing.grid([[drawing.tile(picture, "a")] * 3, [drawing.tile(picture, "b")]])
    assert sheet.shape[1] - drawing.GAP == 3 * (drawing.SIDE + drawing.GAP)
