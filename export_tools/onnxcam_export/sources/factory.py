"""Models by the name of the function that makes them: ``torchvision.models:resnet18``."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from onnxcam.errors import ExportError, ModelError
from onnxcam_export.sources._torch_export import first_line, import_torch

# Where training scripts put the weights inside a checkpoint.
CHECKPOINT_KEYS = ("state_dict", "model_state_dict", "model", "module")
# What DataParallel and torch.compile put before every name.
NAME_PREFIXES = ("module.", "_orig_mod.")


def load_factory(
    spec: str,
    kwargs: Mapping[str, Any] | None = None,
    weights_file: str | os.PathLike[str] | None = None,
) -> Any:
    """Import ``MODULE:FACTORY``, call it, and load weights into what it makes.

    Args:
        spec: a module and an attribute of it (dots allowed): a function or class that makes a
            model, or a model itself. Modules of the current folder are found too.
        kwargs: keyword arguments for the factory.
        weights_file: a file for :func:`load_weights`.

    Returns:
        A torch module or a Keras model.

    Raises:
        ExportError: no such module or attribute, not callable, an exception in it, or weights
            that do not fit.
        ModelError: the weights file is missing or can't be read.
    """
    module_name, colon, attribute = spec.partition(":")
    if not (module_name and colon and attribute):
        raise ExportError(
            f"{spec!r}: expected MODULE:FACTORY, for example torchvision.models:resnet18"
        )
    arguments = dict(kwargs or {})
    if not all(isinstance(key, str) for key in arguments):
        raise ExportError(f"kwargs: expected names as keys, got {list(arguments)}")
    with _current_folder_importable():
        factory = _import(spec, module_name, attribute)
        if _is_model(factory):
            if arguments:
                raise ExportError(f"{spec!r} is a model already: it takes no arguments")
            model = factory
        elif not callable(factory):
            raise ExportError(f"{spec!r} is not callable: {type(factory).__name__}")
        else:
            try:
                model = factory(**arguments)
            except Exception as error:  # a user's function may raise anything
                shown = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
                raise ExportError(f"{spec}({shown}) failed: {first_line(error)}") from error
    if not _is_model(model):
        raise ExportError(
            f"{spec!r} returned {type(model).__name__}: expected a torch module or a Keras model"
        )
    if weights_file is not None:
        load_weights(model, weights_file)
    return model


def load_weights(model: Any, weights_file: str | os.PathLike[str]) -> None:
    """Load weights into a model, in place and strictly: every weight, no other.

    Args:
        model: a torch module, whose file is read by `torch.load` with ``weights_only=True`` (it
            runs no code of the file), taken out of a checkpoint's ``state_dict`` and freed of
            DataParallel's ``module.``; or a Keras model, whose file Keras reads.
        weights_file: the file.

    Raises:
        ModelError: the file is missing or can't be read.
        ExportError: names or shapes do not match the model's.
    """
    path = Path(weights_file)
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    if _is_keras(model):
        try:
            model.load_weights(path)
        except Exception as error:  # h5py, zipfile and Keras each raise their own
            raise ExportError(f"{path}: does not fit the model: {first_line(error)}") from error
        return
    torch = import_torch()
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zipfile and torch each raise their own
        raise ModelError(
            f"{path}: can't be read as weights (a state_dict saved by torch.save): "
            f"{first_line(error)}"
        ) from error
    weights = _state_dict(torch, path, loaded)
    own = model.state_dict()
    problems = []
    for title, names in (
        ("missing", own.keys() - weights.keys()),
        ("unknown", weights.keys() - own.keys()),
        ("of another shape", {k for k in own.keys() & weights.keys() if _differ(own, weights, k)}),
    ):
        if names:
            shown = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
            problems.append(f"{len(names)} {title} ({shown})")
    if problems:
        raise ExportError(f"{path}: weights do not fit the model: {'; '.join(problems)}")
    model.load_state_dict(weights, strict=True)


def _import(spec: str, module_name: str, attribute: str) -> Any:
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        hint = "" if error.name == module_name else f" (needed by {module_name!r})"
        raise ExportError(
            f"{spec!r}: no module named {error.name!r}{hint}; is it installed, or is "
            "the current folder the right one?"
        ) from error
    except Exception as error:  # a module may raise anything while it is imported
        raise ExportError(f"{spec!r}: importing failed: {first_line(error)}") from error
    try:
        return functools.reduce(getattr, attribute.split("."), module)
    except AttributeError as error:
        raise ExportError(f"{spec!r}: module {module_name!r} has no {attribute!r}") from error


def _state_dict(torch: Any, path: Path, loaded: Any) -> dict[str, Any]:
    for key in CHECKPOINT_KEYS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
            break
    if not isinstance(loaded, Mapping) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in loaded.items()
    ):
        raise ModelError(f"{path}: expected a state_dict (names and tensors)")
    weights = dict(loaded)
    for prefix in NAME_PREFIXES:
        if weights and all(name.startswith(prefix) for name in weights):
            weights = {name[len(prefix) :]: value for name, value in weights.items()}
    return weights


def _differ(own: Mapping[str, Any], weights: Mapping[str, Any], name: str) -> bool:
    return bool(own[name].shape != weights[name].shape)


def _is_keras(model: Any) -> bool:
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(model, keras.Model)


def _is_model(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return _is_keras(value) or (torch is not None and isinstance(value, torch.nn.Module))


@contextlib.contextmanager
def _current_folder_importable() -> Iterator[None]:
    """An installed command, unlike `python -m`, does not look for modules where it is called."""
    folder = os.getcwd()
    if folder in sys.path or "" in sys.path:
        yield
        return
    sys.path.append(folder)  # last: nothing there is to hide an installed module
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)
