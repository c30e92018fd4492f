"""What a fresh process loads, and what happens where nothing can be cached."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import onnxcam
from helpers_explaining import HandMade
from onnxcam import meanwhile

FORBIDDEN = {"onnx", "onnx_ir", "torch", "keras", "tensorflow", "cv2", "matplotlib"}
REPORT = "import sys; print(*(name for name in sys.modules if '.' not in name))"


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_import_is_light():
    loaded = set(run(f"import onnxcam; {REPORT}").split())
    assert "onnxcam" in loaded
    assert not loaded & (FORBIDDEN | {"numba", "onnxruntime", "PIL"})


def test_public_names_are_light():
    loaded = set(run(f"from onnxcam import *; {REPORT}").split())
    assert not loaded & (FORBIDDEN | {"numba"})


def test_explaining_loads_no_framework(tmp_path):
    model = tmp_path / "a.onnx"
    model.write_bytes(HandMade().bytes())
    code = (
        "import numpy, onnxcam\n"
        f"r = onnxcam.Engine({str(model)!r}).explain(numpy.zeros((9, 9, 3), 'uint8'))\n"
        f"r.overlay(); r.figure()\n{REPORT}"
    )
    loaded = set(run(code, ONNXCAM_KERNELS="jit").split())
    assert {"onnxcam", "numba", "onnxruntime"} <= loaded
    assert not loaded & FORBIDDEN


def test_a_loaded_engine_imports_nothing_more(tmp_path):
    """The thread that imports while the model is loaded is done, whatever it met."""
    model = tmp_path / "a.onnx"
    model.write_bytes(HandMade().bytes())
    code = (
        "import sys, threading, numpy, onnxcam\n"
        "sys.modules['PIL.JpegImagePlugin'] = None\n"  # an import that fails
        f"engine = onnxcam.Engine({str(model)!r})\n"
        "assert threading.active_count() == 1\n"
        "before = set(sys.modules)\n"
        "engine.explain(numpy.zeros((9, 9, 3), 'uint8')).overlay()\n"
        "print(*(name for name in set(sys.modules) - before if name.startswith('onnxcam')))"
    )
    assert run(code, ONNXCAM_KERNELS="library").split() == []


def test_a_model_that_fails_to_load_leaves_no_thread():
    code = (
        "import threading, onnxcam\n"
        "try:\n    onnxcam.Engine('missing.onnx')\n"
        "except onnxcam.ModelError as error:\n    print(error, threading.active_count())"
    )
    assert run(code) == "model 'missing.onnx': no such file 1\n"


def test_every_public_name_exists():
    for name in onnxcam.__all__:
        assert getattr(onnxcam, name) is not None
        assert name in dir(onnxcam)
    assert not hasattr(onnxcam, "nonsense")


def test_kernels_without_a_cache_folder(tmp_path):
    """A copy of the package in which nothing can be written, with a home of the same kind.

    Files stand where the cache folders would be made, since a test may run as root.
    """
    package = tmp_path / "onnxcam"
    source = Path(onnxcam.__file__).parent
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "kernels" / "__pycache__").write_text("in the way")
    (tmp_path / "home").write_text("in the way")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.dont_write_bytecode = True\n"
        "import numpy as np, onnxcam\nfrom onnxcam import kernels\n"
        "out = np.empty(2, np.float32)\n"
        "kernels.channel_means(np.array([[1, 3], [2, 2]], np.float32), out)\n"
        "print(onnxcam.__file__, out.tolist())"
    )
    home = str(tmp_path / "home")
    printed = run(code, HOME=home, XDG_CACHE_HOME=home, NUMBA_CACHE_DIR="")
    assert printed.split(maxsplit=1) == [str(package / "__init__.py"), "[2.0, 2.0]\n"]


def test_an_engine_loads_where_no_thread_can_start(monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(meanwhile, "_MODULES", ("onnxcam.not_imported_yet",))
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert onnxcam.Engine(HandMade().bytes()).contract
