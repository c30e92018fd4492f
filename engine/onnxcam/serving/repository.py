"""A model repository: the folder that Triton serves models from.

REPO/NAME/config.pbtxt
REPO/NAME/labels.txt       where the file names its classes
REPO/NAME/1/model.onnx     and the files its weights are in, if they are in others
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from onnxcam.errors import InputError
from onnxcam.serving.external_data import external_files
from onnxcam.serving.triton import LABELS_FILE, MODEL_FILE, Configuration

FIRST_VERSION = "1"
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


def default_name(model: Path) -> str:
    """The file's name up to its first dot, with nothing in it that a URL would have to quote."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", model.name.split(".")[0]) or "model"


def check_name(name: str) -> str:
    """The name, if a folder and a part of a URL may be called so.

    Raises:
        InputError: it may not.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"name: expected letters, digits, '.', '_' and '-', got {name!r}")
    return name


def write_repository(
    model: Path, repository: Path, name: str, configuration: Configuration
) -> Path:
    """Lay a model out in a repository, which is made if it is not there; all of it or nothing.

    The model's folder is made under another name and renamed, so that a server that watches the
    repository never sees half of it.

    Returns:
        The model's folder.

    Raises:
        InputError: the repository has a model of that name, or is not a folder.
        ModelError: the file refers to data outside of its folder.
        OSError: the disk is full, the repository not writable.
    """
    data = external_files(model)
    target = repository / name
    if target.exists():
        raise InputError(f"'{target}' exists; choose another name, or remove it first")
    if repository.exists() and not repository.is_dir():
        raise InputError(f"'{repository}' is not a folder")
    made = not repository.exists()
    temporary = repository / f".{name}.{os.urandom(4).hex()}.tmp"
    try:
        version = temporary / FIRST_VERSION
        version.mkdir(parents=True)
        shutil.copyfile(model, version / MODEL_FILE)
        for file in data:
            (version / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(model.parent / file, version / file)
        (temporary / "config.pbtxt").write_text(configuration.text, encoding="utf-8")
        if configuration.labels is not None:
            _write_labels(temporary / LABELS_FILE, configuration.labels)
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        if made and repository.is_dir():
            repository.rmdir()
        raise
    return target


def _write_labels(path: Path, labels: Sequence[str]) -> None:
    """One a line, by class index: a name of several lines becomes one of spaces."""
    text = "".join(" ".join(label.split()) + "\n" for label in labels)
    path.write_text(text, encoding="utf-8")
