"""Where the kernels come from: the library, Numba, or an error that says what to install."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import onnxcam
from helpers_explaining import HandMade
from helpers_native import built, by_jit, good_call
from onnxcam import kernels
from onnxcam.native.loader import Library
from onnxcam.native.table import TABLE
from onnxcam.native.targets import host_target
from onnxcam.native.work_arrays import with_work_space

WITHOUT_NUMBA = "sys.modules['numba'] = None\n"
CALL = """
import numpy, onnxcam
from onnxcam import compiled
out = numpy.empty(2, numpy.float32)
compiled.channel_means(numpy.array([[1, 3], [2, 2]], numpy.float32), out)
print(out.tolist(), compiled.origin(), "numba" in sys.modules and sys.modules["numba"] is not None)
"""


def run(code, kernels=""):
    return subprocess.run(
        [sys.executable, "-c", "import sys\n" + code],
        capture_output=True,
        text=True,
        env={**os.environ, "ONNXCAM_KERNELS": str(kernels)},
        check=False,
    )


def last_line(done):
    return done.stderr.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    host = host_target()
    if host is None:
        pytest.skip("no target is this machine")
    return built(host.name, tmp_path_factory)


def test_library_needs_no_numba(library):
    done = run(WITHOUT_NUMBA + CALL, library)
    assert done.stdout == f"[2.0, 2.0] {library} False\n", done.stderr
    assert run(CALL, library).stdout == done.stdout


def test_jit():
    assert run(CALL, "jit").stdout == "[2.0, 2.0] jit True\n"


def test_engine_runs_on_the_library_alone(library, tmp_path):
    model = tmp_path / "a.onnx"
    model.write_bytes(HandMade().bytes())
    code = f"""
import numpy
from onnxcam import Engine
picture = numpy.arange(243, dtype=numpy.uint8).reshape(9, 9, 3)
for method in ("gradcam", "layercam"):
    result = Engine({str(model)!r}).explain(picture, method=method)
    print(result.overlay().tobytes(), result.map.tobytes(), result.diagnosis)
"""
    alone = run(WITHOUT_NUMBA + code, library)
    assert alone.returncode == 0, alone.stderr
    assert alone.stdout == run(code, "jit").stdout


def test_neither_library_nor_numba(tmp_path):
    source = Path(onnxcam.__file__).parent
    unwanted = shutil.ignore_patterns("__pycache__", "lib")
    shutil.copytree(source, tmp_path / "onnxcam", ignore=unwanted)
    done = run(WITHOUT_NUMBA + f"sys.path.insert(0, {str(tmp_path)!r})\n" + CALL)
    assert "MissingExtraError" in last_line(done)
    for word in ("libonnxcam.so", "no such file", "onnxcam[jit]", "onnxcam native build"):
        assert word in last_line(done)


def test_wanted_library_is_missing(tmp_path):
    done = run(CALL, tmp_path / "absent.so")
    assert "LibraryError" in last_line(done)
    assert "absent.so" in last_line(done)


def test_jit_without_numba():
    done = run(WITHOUT_NUMBA + CALL, "jit")
    assert "MissingExtraError" in last_line(done)
    assert "onnxcam[jit]" in last_line(done)


def test_unknown_kernel():
    done = run("from onnxcam import compiled; compiled.nonsense", "jit")
    assert "AttributeError: onnxcam has no kernel 'nonsense'" in last_line(done)


@pytest.mark.parametrize("name", [kernel.name for kernel in TABLE if kernel.scratch])
def test_work_space_is_each_threads_own(library, name):
    """Pictures of several sizes at once in several threads."""
    kernel = next(row for row in TABLE if row.name == name)
    random = np.random.default_rng(2)
    calls = [good_call(kernel, random) for _ in range(8)]
    expected = [by_jit(call) for call in calls]
    for function in (
        Library(library).function(kernel),
        with_work_space(kernel, getattr(kernels, name)),
    ):

        def check(i, function=function):
            for _ in range(40):
                given = calls[i % 8].copied()
                function(*given.python_values(work_space=False))
                for found, wanted in zip(given.arrays, expected[i % 8], strict=True):
                    np.testing.assert_array_equal(found, wanted)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(check, range(16)))
