"""Writing the npm package."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from onnxcam._version import __version__
from onnxcam.javascript.tables import tables
from onnxcam.javascript.wasm import TARGET, kernels_wasm

SOURCES = Path(__file__).parent / "npm"


def package_files(wasm: bytes | None = None) -> Iterator[tuple[str, bytes]]:
    """Every file of the package: its path there, with slashes, and its content.

    Args:
        wasm: the kernels, where they are at hand; otherwise :func:`kernels_wasm` is asked.

    Raises:
        MissingExtraError, OnnxcamError: as :func:`kernels_wasm`.
    """
    yield TARGET.library, kernels_wasm() if wasm is None else wasm
    yield "src/tables.js", tables().encode()
    for path in sorted(SOURCES.rglob("*")):
        if path.is_file():
            name = path.relative_to(SOURCES).as_posix()
            yield name, _manifest(path) if name == "package.json" else path.read_bytes()


def write_package(folder: Path, wasm: bytes | None = None) -> None:
    """Write the package into a folder, over what is there.

    Raises:
        MissingExtraError, OnnxcamError: as :func:`kernels_wasm`.
        OSError: the folder can't be written.
    """
    for name, content in package_files(wasm):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _manifest(path: Path) -> bytes:
    document = json.loads(path.read_text("utf-8"))
    document["version"] = __version__
    return (json.dumps(document, indent=2) + "\n").encode()
