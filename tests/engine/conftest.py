"""Kernels are compiled afresh for every test run: numba's cache can hold stale ones."""

import atexit
import os
import shutil
import tempfile

_CACHE = tempfile.mkdtemp(prefix="onnxcam-numba-")
os.environ["NUMBA_CACHE_DIR"] = _CACHE
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
