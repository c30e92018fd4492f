"""Importing what explaining needs, while onnxruntime loads the model.

onnxruntime loads a file without Python's lock, so with a second core the imports cost no time
(`benchmarks/cold_start.py`).
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_MODULES = (
    "onnxcam.settings",
    "onnxcam.explaining",
    "PIL.JpegImagePlugin",  # most pictures are; Pillow imports the others when it meets one
)


@contextmanager
def importing() -> Iterator[None]:
    """Let a thread import them during the block; when it ends they are all there.

    What fails to be imported is left to whoever needs it: there it fails again, and is told. So is
    everything where the system has no thread left to give.
    """
    if all(name in sys.modules for name in _MODULES):
        yield
        return
    # Before the thread begins: two that import wait for each other. 225 ms instead of 235 from the
    # start of a process to an overlay.
    import onnxruntime  # noqa: F401

    thread = threading.Thread(target=_import_all, name="onnxcam imports")
    with suppress(RuntimeError):  # can't start new thread
        thread.start()
    try:
        yield
    finally:
        if thread.ident is not None:
            thread.join()  # a process that forks now must not inherit half an import


def _import_all() -> None:
    with suppress(Exception):
        for name in _MODULES:
            importlib.import_module(name)
        from onnxcam import compiled

        compiled.origin()  # loads the library
