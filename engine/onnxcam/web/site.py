"""Putting the site together."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from onnxcam._version import __version__
from onnxcam.errors import InputError
from onnxcam.javascript.package import package_files
from onnxcam.javascript.wasm import TARGET
from onnxcam.web import runtime

PAGE = Path(__file__).parent / "page"
MANIFEST = "site.json"
_MAKER = "onnxcam web"
_MODEL = "model.onnx"
_KERNELS = f"onnxcam/{TARGET.library}"
_OF_THE_PACKAGE_ONLY = ("package.json", "index.d.ts", "README.md")


def check_folder(folder: Path) -> None:
    """Raise InputError unless the folder is new, empty, or an earlier site."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"'{folder}': is a file; give a folder")
    if not any(folder.iterdir()):
        return
    try:
        ours = json.loads((folder / MANIFEST).read_bytes())["made_by"] == _MAKER
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise InputError(
            f"'{folder}': is neither empty nor a site made by '{_MAKER}'; give another folder"
        )


def site_files(
    model: bytes,
    title: str,
    runtime_files: Mapping[str, bytes],
    sample: tuple[str, bytes] | None = None,
    wasm: bytes | None = None,
) -> dict[str, bytes]:
    """Every file of the site: its path there, with slashes, and its content.

    Args:
        model: the explaining file's content.
        title: what the page calls the model.
        runtime_files: as :func:`onnxcam.web.runtime.runtime_files` gives them.
        sample: a picture for visitors to try: its suffix and its content.
        wasm: the kernels, where they are at hand.

    Raises:
        MissingExtraError, OnnxcamError: the kernels have to be built, and can't be.
    """
    files = {path.name: path.read_bytes() for path in sorted(PAGE.iterdir()) if path.is_file()}
    for name, content in package_files(wasm):
        if name not in _OF_THE_PACKAGE_ONLY:
            files[f"onnxcam/{name}"] = content
    files |= {f"onnxruntime/{name}": content for name, content in runtime_files.items()}
    files[_MODEL] = model
    if sample is not None:
        files[f"sample{sample[0]}"] = sample[1]
    wasm_file = f"onnxruntime/{runtime.WASM}"
    document = {
        "made_by": _MAKER,
        "onnxcam": __version__,
        "title": title,
        "model": {"file": _MODEL, "bytes": len(model)},
        "kernels": {"file": _KERNELS, "bytes": len(files[_KERNELS])},
        "runtime": {
            "file": wasm_file,
            "bytes": len(files[wasm_file]),
            "script": f"onnxruntime/{runtime.SCRIPT}",
        },
        "sample": None if sample is None else f"sample{sample[0]}",
    }
    files[MANIFEST] = (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
    return files


def write_site(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files into a folder, which appears, or changes, as a whole.

    Raises:
        InputError: the folder holds something else.
        OSError: it can't be written.
    """
    check_folder(folder)
    target = folder.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    mark = os.urandom(4).hex()
    fresh, former = (target.with_name(f".{target.name}.{mark}.{what}") for what in ("new", "old"))
    try:
        for name, content in files.items():
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        if target.exists():
            target.rename(former)
        fresh.rename(target)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        if former.exists() and not target.exists():
            with suppress(OSError):
                former.rename(target)
        raise
    shutil.rmtree(former, ignore_errors=True)
