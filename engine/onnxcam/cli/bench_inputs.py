"""What `onnxcam bench` feeds a model: a picture, arrays of files, or random values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcam.contract import TARGET
from onnxcam.engine import Engine
from onnxcam.errors import InputError
from onnxcam.model import Arrays
from onnxcam.pictures import Pixels
from onnxcam.session import TensorInfo

_SIDE = 224  # of a picture where neither file nor preprocessing says its size


def make_inputs(
    engine: Engine, given: Arrays, picture: Pixels | None, batch: int | None
) -> tuple[NDArray[Any], Arrays]:
    """The picture input, and the model's further inputs by name.

    Args:
        engine: the explaining file.
        given: arrays for some of the inputs, the picture's among them or not.
        picture: what to make the picture input of; None for random values.
        batch: how many images; None for as many as the file or the given array has, or 1.

    Raises:
        InputError: an array that does not fit, another batch than the file's, or an input whose
            shape the file leaves open.
        PreprocessError: a picture for a file that does not say how to make a tensor of it.
    """
    random = np.random.default_rng(0)
    info = engine.model.picture_input
    given = dict(given)
    tensor = given.pop(info.name, None)
    if tensor is None:
        tensor = _images(engine, picture, _batch_size(info, batch), random)
    elif picture is not None:
        raise InputError(f"--input {info.name}: that is the picture; leave out --picture")
    elif batch not in (None, len(np.atleast_1d(tensor))):
        raise InputError(f"--batch {batch}: --input {info.name} has shape {list(tensor.shape)}")
    info.check(tensor)
    for name, each in engine.model.session.inputs.items():
        if name not in (info.name, TARGET, *given):
            first = [len(tensor) if side is None else side for side in each.shape[:1]]
            given[name] = _random_values(each, [*first, *each.shape[1:]], random)
    further = engine.model.checked_inputs(engine.model.named_inputs(given))
    return np.ascontiguousarray(tensor), further


def _batch_size(info: TensorInfo, batch: int | None) -> int:
    fixed = info.shape[0]
    if batch is None:
        return fixed or 1
    if batch < 1 or (fixed is not None and batch != fixed):
        wanted = f"{fixed}, which the file has fixed" if fixed else "at least 1"
        raise InputError(f"--batch {batch}: expected {wanted}")
    return batch


def _images(
    engine: Engine, picture: Pixels | None, count: int, random: np.random.Generator
) -> NDArray[Any]:
    if picture is not None:
        preparation = engine.preparation
        tensor = np.empty((count, *preparation.shape), preparation.dtype)
        preparation.fill(picture, tensor[0])
        tensor[1:] = tensor[0]
        return tensor
    info = engine.model.picture_input
    sides = list(info.shape[1:])
    if engine.preprocess is not None:
        sides = list(engine.preparation.shape)
    elif len(sides) == 3:
        spatial = (1, 2) if engine.contract.picture.layout == "NCHW" else (0, 1)
        sides = [_SIDE if s is None and i in spatial else s for i, s in enumerate(sides)]
    return _random_values(info, [count, *sides], random)


def _random_values(
    info: TensorInfo, shape: list[int | None], random: np.random.Generator
) -> NDArray[Any]:
    sides = [side for side in shape if side is not None]
    if len(sides) < len(shape) or info.dtype is None:
        raise InputError(
            f"input '{info.name}': the file leaves its form open, {info}; "
            f"give --input {info.name}=FILE.npy"
        )
    if info.dtype == np.uint8:
        return random.integers(0, 256, sides, dtype=np.uint8)
    if not np.issubdtype(info.dtype, np.floating):  # indices, lengths: 0 is in every range
        return np.zeros(sides, info.dtype)
    return random.uniform(0, 1, sides).astype(info.dtype)
