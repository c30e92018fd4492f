"""Whether a file can be explained by the site, and if not, why."""

from __future__ import annotations

from pathlib import Path

from onnxcam.contract import OUTPUTS_OF_EMIT
from onnxcam.engine import Engine
from onnxcam.errors import (
    ContractError,
    InputError,
    ModelError,
    OnnxcamError,
    PreprocessError,
)
from onnxcam.model import Model

# WebAssembly's memory is 4 GiB, and holds the file and the weights that are read from it.
_MOST_BYTES = 1_500_000_000
_PICTURE_DTYPES = (
    "float32", "float64", "float16", "uint8", "int8", "uint16", "int16", "int32",
)  # fmt: skip


def read_suitable(path: Path) -> bytes:
    """The content of an explaining file that the site can run.

    Raises:
        ModelError: no such file, not an ONNX file, too large, or weights in other files.
        ContractError: no contract, or one that contradicts the graph.
        PreprocessError: the file does not say how to make its input of a picture.
        InputError: the model takes more than a picture, or its maps are not those of pictures.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(f"model '{path}': no such file") from error
    except IsADirectoryError as error:
        raise ModelError(f"model '{path}': is a folder, expected an ONNX file") from error
    if len(content) > _MOST_BYTES:
        raise ModelError(
            f"model '{path}': {len(content) / 1e6:.0f} MB are too many for a browser; "
            f"expected at most {_MOST_BYTES / 1e6:.0f} MB"
        )
    try:
        engine = Engine(content, threads=1)  # from memory, as in the browser
    except (ContractError, ModelError) as error:
        raise _explained(path, error) from error
    _check(path, engine.model, has_preprocess=engine.preprocess is not None)
    return content


def _explained(path: Path, error: OnnxcamError) -> OnnxcamError:
    """The same, for the user of a command: with the file's name, without talk of Python."""
    text = str(error)
    if "external data" in text.lower():
        return ModelError(
            f"model '{path}': keeps its weights in other files; a browser needs them all in one"
        )
    text = text.removesuffix(", or pass contract=").replace("the model", f"'{path}'", 1)
    return type(error)(text)


def _check(path: Path, model: Model, has_preprocess: bool) -> None:
    if not has_preprocess:
        raise PreprocessError(
            f"model '{path}': does not say how to make its input of a picture; export it again "
            "with --preprocess (imagenet, caffe, tf, unit, or a JSON file)"
        )
    further = model.further_inputs
    if further:
        raise InputError(
            f"model '{path}': takes {', '.join(further)} beside the picture, "
            "which a visitor of the site can't give"
        )
    dtype = model.contract.picture.dtype
    if dtype not in _PICTURE_DTYPES:
        raise InputError(f"model '{path}': its input is {dtype}, which the site can't make")
    first = OUTPUTS_OF_EMIT[model.contract.emit][0]
    rank = len(model.session.outputs[first].shape)
    if rank not in ((3, 4) if model.contract.emit == "heatmap" else (4,)):
        raise InputError(
            f"model '{path}': output '{first}' has {rank} axes; a picture's map needs two "
            "spatial axes"
        )
