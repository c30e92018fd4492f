"""What `--verify` feeds an exported model and the plain one, and how it runs them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from onnxcam.contract import TARGET
from onnxcam.errors import ExportError
from onnxcam_export.assemble import Built

Array = npt.NDArray[Any]


def random_feed(built: Built, seed: int) -> dict[str, Array]:
    """One picture's worth of noise, in the range that the preprocessing gives.

    Further inputs: floats between 0.1 and 1, integers 0.
    """
    rng = np.random.default_rng(seed)
    picture = built.contract.picture
    info = next(i for i in built.model.graph.input if i.name == picture.name)
    sizes: list[int] = [d.dim_value for d in info.type.tensor_type.shape.dim]
    fill = list(picture.preprocess.size) if picture.preprocess else [224, 224]
    for axis, size in enumerate(sizes):
        if size == 0:
            place = axis - (1 if picture.layout == "NHWC" else 2)
            sizes[axis] = 1 if axis == 0 else fill[place] if 0 <= place < 2 else 3
    pixels = rng.uniform(0, 255, sizes)
    if picture.preprocess is not None and len(sizes) == 4:
        along = [1, 1, 1, -1] if picture.layout == "NHWC" else [1, -1, 1, 1]
        mean = np.reshape(picture.preprocess.mean, along)
        std = np.reshape(picture.preprocess.std, along)
        pixels = (pixels * picture.preprocess.scale - mean) / std
    elif np.dtype(picture.dtype).kind == "f":
        pixels = rng.standard_normal(sizes)
    feed = {picture.name: pixels.astype(picture.dtype)}
    by_name = {
        d.dim_param: size
        for d, size in zip(info.type.tensor_type.shape.dim, sizes, strict=True)
        if d.dim_param
    }
    for other in built.model.graph.input:
        if other.name == picture.name:
            continue
        tensor = other.type.tensor_type
        shape = [d.dim_value or by_name.get(d.dim_param, 1) for d in tensor.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        if other.name == TARGET:
            # The highest score, then the classes in their order.
            columns = np.arange(-1, (shape[1] if len(shape) > 1 else 1) - 1)
            row = np.where(columns > 0, columns % built.score.classes, columns)
            feed[TARGET] = np.broadcast_to(row, (shape[0], len(row))).reshape(shape)
        elif np.dtype(dtype).kind == "f":
            feed[other.name] = rng.uniform(0.1, 1, shape).astype(dtype)
        else:
            feed[other.name] = np.zeros(shape, dtype)
    return feed


def run(built: Built, feed: dict[str, Array]) -> dict[str, Array]:
    session = ort.InferenceSession(
        built.model.SerializeToString(), quiet_options(), ["CPUExecutionProvider"]
    )
    try:
        values = session.run(None, feed)
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise ExportError(f"verify: the model does not run on random input: {error}") from error
    return dict(zip([o.name for o in session.get_outputs()], values, strict=True))


def plain_picture(built: Built, feed: dict[str, Array]) -> Array:
    """What the plain model takes in the place of the picture that is fed."""
    plain, fed = built.plain_picture, feed[built.contract.picture.name]
    preprocess = plain.preprocess
    if plain == built.contract.picture or preprocess is None:
        return fed
    pixels = fed[..., ::-1] if preprocess.color == "BGR" else fed
    values = (pixels * preprocess.scale - np.array(preprocess.mean)) / preprocess.std
    dtype = np.dtype(plain.dtype)
    if dtype.kind in "iu":
        values = np.rint(values).clip(np.iinfo(dtype).min, np.iinfo(dtype).max)
    values = values if plain.layout == "NHWC" else values.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(values, dtype)


def quiet_options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return options
