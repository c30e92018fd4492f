"""What the examples in other languages are tried on, made in the current folder.

    eval "$(python3 prepare.py)"

Writes `demo.cam.onnx` (a small network that ships with onnxcam, exported), `scene.ppm` (a picture)
and `scene.f32` (the network's input of it, raw float32), and prints shell commands that say where
the libraries of the Python packages lie: `ONNXRUNTIME_LIBRARY` is the file, `ONNXCAM` the folder of
libonnxcam and onnxcam.h. Needs `pip install 'onnxcam[export]'`.
"""

from __future__ import annotations

import importlib.util
import shlex
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from onnxcam import Engine, compiled
from onnxcam_export import from_onnx
from onnxcam_models import network, scenes


def main() -> int:
    """Write the files, print where the libraries are."""
    shipped = network("digits-in-clutter")
    from_onnx(
        shipped.path,
        layer=shipped.layer,
        preprocess=shipped.preprocess,
        labels=shipped.labels,
        activation=shipped.activation,
        output="demo.cam.onnx",
    )
    scene = scenes.compose(np.random.default_rng(48), *scenes.unseen_handwriting())
    picture = Image.fromarray(scene.picture).convert("RGB")
    picture.save("scene.ppm")
    preparation = Engine("demo.cam.onnx").preparation
    tensor = np.empty(preparation.shape, preparation.dtype)
    preparation.fill(np.array(picture), tensor)
    tensor.tofile("scene.f32")
    if compiled.origin() == "jit":
        print("onnxcam has no libonnxcam here: run 'onnxcam native build'", file=sys.stderr)
        return 1
    spec = importlib.util.find_spec("onnxruntime")
    assert spec is not None  # the engine has just used it
    assert spec.submodule_search_locations
    found = list(Path(spec.submodule_search_locations[0]).glob("capi/libonnxruntime.so*"))
    if not found:
        print("this build of onnxruntime has no libonnxruntime.so", file=sys.stderr)
        return 1
    print(f"export ONNXRUNTIME_LIBRARY={shlex.quote(str(found[0]))}")
    print(f"export ONNXCAM={shlex.quote(str(Path(compiled.origin()).parent))}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
