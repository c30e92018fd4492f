"""Checked, atomic writing of models."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import onnx

from onnxcam.errors import ExportError


def check(proto: onnx.ModelProto) -> None:
    """The ONNX checker with full shape inference.

    Raises:
        ExportError: the exported graph is not valid.
    """
    try:
        onnx.checker.check_model(proto, full_check=True)
    except Exception as error:
        raise ExportError(f"the exported graph does not pass the ONNX checker: {error}") from error


def write(proto: onnx.ModelProto, path: str | os.PathLike[str]) -> Path:
    """Write to a temporary name in the same folder, then rename: never half a file.

    Raises:
        ExportError: the folder is missing or not writable.
    """
    target = Path(path)
    folder = target.parent
    if not folder.is_dir():
        raise ExportError(f"cannot write {target}: the folder {folder} does not exist")
    if target.is_dir():
        raise ExportError(f"cannot write {target}: it is a folder; name a file")
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=folder)
        with os.fdopen(handle, "wb") as file:
            file.write(proto.SerializeToString())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, target)
    except OSError as error:
        raise ExportError(f"cannot write {target}: {error.strerror}") from error
    finally:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
    return target
