"""onnxruntime-web: the files of the npm package that the site needs."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from onnxcam.errors import InputError, MissingExtraError, OnnxcamError

PACKAGE = "onnxruntime-web"
VERSION = "1.30.0"
# Our name -> the package's. Not every server knows that .mjs is JavaScript, and browsers insist.
# The WebAssembly, 14 MB, is stored compressed, so that any server delivers 3.7 MB.
SCRIPT = "ort-wasm-simd-threaded.js"
WASM = "ort-wasm-simd-threaded.wasm.gz"
_SOURCES = {
    "ort.wasm.min.js": "dist/ort.wasm.min.mjs",
    SCRIPT: "dist/ort-wasm-simd-threaded.mjs",
    WASM: "dist/ort-wasm-simd-threaded.wasm",
}
_NOTICE = f"""{PACKAGE}, (c) Microsoft Corporation, MIT License.
https://github.com/microsoft/onnxruntime
"""


def runtime_files(folder: Path | None) -> dict[str, bytes]:
    """The runtime's files for the site, by name.

    Args:
        folder: the npm package, unpacked; None to fetch it with npm.

    Raises:
        InputError: the folder is not the package.
        MissingExtraError: npm is not installed.
        OnnxcamError: npm can't fetch the package.
    """
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="onnxcam-") as name:
            contents = _contents(_member_reader(_fetched(Path(name))))
    else:
        contents = _contents(lambda source: _in_folder(folder, source))
    contents[WASM] = gzip.compress(contents[WASM], mtime=0)
    return {**contents, "LICENSE.txt": _NOTICE.encode()}


def _contents(read: Callable[[str], bytes]) -> dict[str, bytes]:
    return {name: read(source) for name, source in _SOURCES.items()}


def _in_folder(folder: Path, source: str) -> bytes:
    try:
        return (folder / source).read_bytes()
    except OSError as error:
        raise InputError(
            f"'{folder}': is not the npm package {PACKAGE} (no {source}); give the folder that "
            f"holds its package.json, of version {VERSION}"
        ) from error


def _member_reader(archive: Path) -> Callable[[str], bytes]:
    def read(source: str) -> bytes:
        with tarfile.open(archive) as found:
            stream = found.extractfile(f"package/{source}")
            assert stream is not None
            return stream.read()

    return read


def _fetched(folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise MissingExtraError(
            f"the site needs {PACKAGE}, which npm fetches: install Node.js, or give "
            f"--onnxruntime-web DIR, the unpacked npm package {PACKAGE} {VERSION}"
        )
    command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    archives = list(folder.glob("*.tgz"))
    if done.returncode != 0 or not archives:
        reason = (done.stderr.strip() or done.stdout.strip() or "no reason given")[-300:]
        raise OnnxcamError(f"npm can't fetch {PACKAGE} {VERSION}: {reason}")
    return archives[0]
