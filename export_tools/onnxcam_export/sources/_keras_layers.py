"""Keras layers: their paths, and what one of them returns while the model runs."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from onnxcam.errors import LayerError

CONVOLUTIONS = (
    "Conv1D",
    "Conv2D",
    "Conv3D",
    "Conv1DTranspose",
    "Conv2DTranspose",
    "Conv3DTranspose",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "SeparableConv1D",
    "SeparableConv2D",
)


def layers_by_path(model: Any) -> dict[str, Any]:
    """Every layer of a model by its path: ``block5_conv3``, ``vgg16/block5_conv3`` if nested."""
    found: dict[str, Any] = {}

    def visit(parent: Any, prefix: str) -> None:
        for layer in parent._flatten_layers(include_self=False, recursive=False):
            path = f"{prefix}{layer.name}"
            # A shared layer keeps the first of its paths.
            if path not in found and all(layer is not other for other in found.values()):
                found[path] = layer
                visit(layer, f"{path}/")

    visit(model, "")
    return found


def find_layer(model: Any, name: str) -> tuple[str, Any] | None:
    """Path and layer for a path or for a bare name, or None when no layer bears it.

    Raises:
        LayerError: several nested layers bear the bare name.
    """
    layers = layers_by_path(model)
    if name in layers:
        return name, layers[name]
    paths = [path for path in layers if path.rsplit("/", 1)[-1] == name]
    if len(paths) > 1:
        raise LayerError(f"layer {name!r} is ambiguous; name one of {', '.join(sorted(paths))}")
    return (paths[0], layers[paths[0]]) if paths else None


def last_convolution(keras: Any, model: Any, run: Callable[[], Any]) -> str:
    """The path of the convolution called last among those whose output has spatial extent.

    Raises:
        LayerError: there is none.
    """
    kinds = tuple(getattr(keras.layers, kind) for kind in CONVOLUTIONS)
    called: list[str] = []

    def note(path: str, last: bool) -> Callable[[Any], Any]:
        def keep(output: Any) -> Any:
            shape = tuple(output.shape)
            if math.prod(shape[1:-1] if last else shape[2:]) > 1:
                called.append(path)
            return output

        return keep

    with contextlib.ExitStack() as stack:
        for path, layer in layers_by_path(model).items():
            if isinstance(layer, kinds):
                last = layer.data_format == "channels_last"
                stack.enter_context(intercepted(layer, note(path, last)))
        run()
    if not called:
        raise LayerError(
            f"{model.name!r} calls no convolution whose output has spatial extent; name the layer"
        )
    return called[-1]


@contextlib.contextmanager
def intercepted(layer: Any, keep: Callable[[Any], Any]) -> Iterator[None]:
    """Let a layer return ``keep(output)`` instead of its output.

    Replacing `call` on the instance reaches layers of nested models as well, which a model
    with a further output does not, and works with every backend.
    """
    # Layers come with class methods; an instance's own `call` is put back as found.
    own = layer.__dict__.get("call")
    original = layer.call

    def call(*args: Any, **kwargs: Any) -> Any:
        return keep(original(*args, **kwargs))

    # Past Keras' own __setattr__, which tracks state and may be locked.
    object.__setattr__(layer, "call", call)
    try:
        yield
    finally:
        if own is None:
            object.__delattr__(layer, "call")
        else:
            object.__setattr__(layer, "call", own)


class Recorder:
    """Keeps what a layer returned; see :func:`recording`.

    Args:
        path: the layer's path, for messages.
        is_tensor: whether a value is one tensor.
        prepare: makes of the output the tensor to keep and to go on with.
    """

    def __init__(
        self,
        path: str,
        is_tensor: Callable[[Any], bool],
        prepare: Callable[[Any], Any] = lambda output: output,
    ) -> None:
        self.path = path
        self.is_tensor = is_tensor
        self.prepare = prepare
        self.outputs: list[Any] = []

    def keep(self, output: Any) -> Any:
        if not self.is_tensor(output):
            raise LayerError(
                f"layer {self.path!r} returns {type(output).__name__}, not one tensor; "
                "name a layer inside it"
            )
        self.outputs.append(self.prepare(output))
        return self.outputs[-1]

    def check(self) -> None:
        """Raise LayerError if the layer was not called, warn if more than once."""
        if not self.outputs:
            raise LayerError(
                f"layer {self.path!r} is not called when the model runs; name a layer that is"
            )
        if len(self.outputs) > 1:
            warnings.warn(
                f"layer {self.path!r} is called {len(self.outputs)} times; "
                "the last call is explained",
                stacklevel=4,
            )


@contextlib.contextmanager
def recording(
    layers: Mapping[str, Any],
    is_tensor: Callable[[Any], bool],
    prepare: Callable[[Any], Any] = lambda output: output,
) -> Iterator[list[Recorder]]:
    """Keep what some layers, given by their paths, return while the model runs.

    The other arguments are those of :class:`Recorder`.
    """
    recorders = [Recorder(path, is_tensor, prepare) for path in layers]
    with contextlib.ExitStack() as stack:
        for recorder, layer in zip(recorders, layers.values(), strict=True):
            stack.enter_context(intercepted(layer, recorder.keep))
        yield recorders


def channels_last(keras: Any, model: Any, layer: Any | None = None) -> bool:
    """Whether `layer`, or the model where the layer does not say, has the channels last."""
    candidates = [] if layer is None else [layer]
    for candidate in [*candidates, *layers_by_path(model).values()]:
        data_format = getattr(candidate, "data_format", None)
        if data_format in ("channels_last", "channels_first"):
            return bool(data_format == "channels_last")
    return bool(keras.config.image_data_format() == "channels_last")
