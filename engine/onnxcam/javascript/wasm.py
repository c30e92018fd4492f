"""The kernels as WebAssembly: those that the package build has made, or made now."""

from __future__ import annotations

import tempfile
from pathlib import Path

from onnxcam.errors import MissingExtraError
from onnxcam.native.build_id import build_id, in_checkout, interface_id
from onnxcam.native.loader import INSTALLED as LIBRARY
from onnxcam.native.targets import TARGETS

TARGET = TARGETS["wasm32"]
INSTALLED = LIBRARY.with_name(TARGET.library)


def kernels_wasm() -> bytes:
    """The content of `onnxcam.wasm`; where the package has none, or an old one, it is built.

    Raises:
        MissingExtraError: it has to be built, and numba or ziglang is missing.
        OnnxcamError: the build fails.
    """
    if INSTALLED.exists():
        found = INSTALLED.read_bytes()
        if _is_of_these_sources(found):
            return found
    from onnxcam.native.build import build

    with tempfile.TemporaryDirectory(prefix="onnxcam-") as folder:
        try:
            library, _ = build(TARGET, Path(folder))
        except MissingExtraError as error:
            raise MissingExtraError(f"this package has no {TARGET.library}; {error}") from error
        return library.read_bytes()


def _is_of_these_sources(library: bytes) -> bool:
    """Whether the library holds our build id, as `onnxcam.native.loader` asks of its own."""
    wanted = build_id() if in_checkout() else interface_id()
    return wanted.encode("ascii") in library
