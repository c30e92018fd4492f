"""The pages of docs/ on other languages: their shell commands, run as they stand."""

from __future__ import annotations

import os
import re
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from helpers_examples import EXAMPLES, library_folder, onnxruntime_library
from helpers_native import run
from onnxcam import Engine

pytest.importorskip("onnx", reason="a model to try is exported")
NEEDED = {
    "c": ["make", "cc"],
    "rust": ["rustc"],
    "java": ["javac"],
    "go": ["go"],
    "csharp": ["mcs"],
}


@pytest.mark.parametrize("page", NEEDED)
def test_commands_of_a_page(page, tmp_path, tmp_path_factory):
    for program in NEEDED[page]:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    java = page == "java" and run(["java", "--list-modules"]).decode()
    if java and "jdk.incubator.foreign@17" not in java:
        pytest.skip("this is not Java 17: its foreign functions are others")
    library, _ = library_folder(tmp_path_factory), onnxruntime_library()
    text = (EXAMPLES.parent / "docs" / f"{page}.md").read_text("utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S)
    assert len(blocks) == 1
    paths = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    environment = {"PATH": paths, "EXAMPLES": str(EXAMPLES), "GOCACHE": str(tmp_path / "cache")}
    environment["ONNXCAM_KERNELS"] = str(library / "libonnxcam.so")
    folder = tmp_path / "empty"
    folder.mkdir()
    run(["bash", "-eu", "-c", blocks[0]], cwd=folder, env=os.environ | environment)
    expected = Engine(folder / "demo.cam.onnx").explain(folder / "scene.ppm").overlay()
    np.testing.assert_array_equal(np.asarray(Image.open(folder / "out.ppm")), expected)
