"""Keras on TensorFlow: exported by tf2onnx, differentiated by GradientTape."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper

from onnxcam.errors import ExportError, MissingExtraError
from onnxcam_export.sources import GradientOracle
from onnxcam_export.sources._graph_names import INPUT, name_batch, placeholders, rename
from onnxcam_export.sources._keras_layers import recording
from onnxcam_export.sources._torch_export import first_line, quiet
from onnxcam_export.sources._torch_gradient import check_targets

Call = Callable[[Sequence[Any]], list[Any]]

LATEST_OPSET = 18  # the latest that tf2onnx writes
# TensorFlow's optimiser copies constants many times over: with VGG16's 411 MB matrix it takes
# more memory than most machines have. Such weights stay out of its sight, see `export`.
LARGE_WEIGHT_BYTES = 32 << 20
WEIGHT = "onnxcam_weight_{}"
NOISY_LOGGERS = ("tensorflow", "tf2onnx", "absl")


def is_tensor(value: Any) -> bool:
    import tensorflow as tf

    return bool(tf.is_tensor(value))


def export(
    model: Any,
    call: Call,
    layers: Mapping[str, Any],
    input_names: Sequence[str],
    input_shapes: Sequence[Sequence[int | None]],
    output_names: Sequence[str],
    opset: int,
) -> onnx.ModelProto:
    """The model as ONNX, the layers' activations last; arguments as `_keras_torch.export`.

    The matrices of large Dense layers enter the traced function as further inputs, and so do
    tensors that layers hold outside of variables (Normalization's mean); both become
    initializers of the finished graph.

    Raises:
        MissingExtraError: tf2onnx is not installed.
        ExportError: tf2onnx cannot convert the model, or does not write this opset.
    """
    if opset > LATEST_OPSET:
        raise ExportError(
            f"opset: tf2onnx writes up to {LATEST_OPSET}, {opset} asked for; "
            "set KERAS_BACKEND=torch for a later one"
        )
    import keras
    import tensorflow as tf

    try:
        import tf2onnx
    except ImportError as error:
        raise MissingExtraError(
            "Keras runs on TensorFlow here, and exporting then needs tf2onnx: "
            "pip install tf2onnx, or set KERAS_BACKEND=torch"
        ) from error

    large = [
        variable
        for variable in model.variables
        if len(variable.shape) == 2 and _bytes(variable) > LARGE_WEIGHT_BYTES
    ]
    specs = [
        tf.TensorSpec(shape, tensor.dtype, name=INPUT.format(index))
        for index, (shape, tensor) in enumerate(zip(input_shapes, model.inputs, strict=True))
    ]
    specs += [
        tf.TensorSpec(variable.shape, variable.dtype, name=WEIGHT.format(index))
        for index, variable in enumerate(large)
    ]

    @tf.function(input_signature=specs)  # type: ignore[untyped-decorator, unused-ignore]
    def traced(*tensors: Any) -> tuple[Any, ...]:
        weights = list(zip(large, tensors[len(input_shapes) :], strict=True))
        with (
            recording(layers, is_tensor) as recorders,
            keras.StatelessScope(state_mapping=weights),
        ):
            outputs = call(tensors[: len(input_shapes)])
        activations = [recorder.outputs[-1] for recorder in recorders]
        return tuple(tf.identity(tensor) for tensor in (*outputs, *activations))

    try:
        with quiet(NOISY_LOGGERS), _without_xla(tf):
            converted, _ = tf2onnx.convert.from_function(
                traced,
                input_signature=specs,
                opset=opset,
                custom_op_handlers={"Erfc": (_convert_erfc, [])},
            )
    except MemoryError as error:
        raise ExportError(
            f"tf2onnx runs out of memory on {model.name!r}: set KERAS_BACKEND=torch"
        ) from error
    except Exception as error:  # tf2onnx raises whatever its handlers meet
        raise ExportError(
            f"tf2onnx cannot convert {model.name!r}: {first_line(error)}; "
            "KERAS_BACKEND=torch takes another route"
        ) from error
    _check_converted(converted, model.name)
    held = {WEIGHT.format(index): variable.value for index, variable in enumerate(large)}
    _store_weights(converted, held | _captured_tensors(traced))
    _set_names(converted, input_names, output_names)
    model_proto: onnx.ModelProto = converted
    return model_proto


def oracle(model: Any, call: Call, layer: Any, path: str) -> GradientOracle:
    """Activation and gradient by GradientTape.

    ``"logit"`` runs the model with the final layer's softmax, log-softmax or sigmoid replaced
    by the identity; ``"probability"`` differentiates the output when it ends in softmax or
    sigmoid, else the softmax of it.
    """

    def compute(
        images: npt.NDArray[np.float32], targets: npt.NDArray[np.int64], score: str
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        import keras
        import tensorflow as tf

        final = final_function(keras, model)
        stepped_over = _linear_end(final) if score == "logit" else contextlib.nullcontext()
        with quiet(NOISY_LOGGERS), tf.GradientTape() as tape, stepped_over:

            def watched(output: Any) -> Any:
                kept = tf.identity(output)  # a layer may return its input itself
                tape.watch(kept)
                return kept

            with recording({path: layer}, is_tensor, watched) as (recorder,):
                output = call([tf.constant(images, dtype=model.inputs[0].dtype)])[0]
            scores = tf.reshape(output, (output.shape[0], -1))
            check_targets(np.asarray(targets), tuple(scores.shape))
            wanted = np.where(targets < 0, np.argmax(scores.numpy(), axis=1), targets)
            if score == "probability" and (final is None or final[1] == "log_softmax"):
                scores = tf.nn.softmax(scores, axis=1)
            scored = tf.gather(scores, wanted, axis=1, batch_dims=1)
        activation = recorder.outputs[-1]
        gradient = tape.gradient(
            scored, activation, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        return _to_numpy(activation), _to_numpy(gradient)

    return compute


def final_function(keras: Any, model: Any) -> tuple[Any, str] | None:
    """The layer that ends in softmax, log_softmax or sigmoid, and which one, or None."""
    layer = model.outputs[0]._keras_history.operation
    while getattr(layer, "outputs", None):  # a nested model
        layer = layer.outputs[0]._keras_history.operation
    if isinstance(layer, keras.layers.Softmax):
        return layer, "softmax"
    activation = getattr(layer, "activation", None)
    for name in ("softmax", "log_softmax", "sigmoid"):
        if activation is getattr(keras.activations, name):
            return layer, name
    return None


@contextlib.contextmanager
def _linear_end(final: tuple[Any, str] | None) -> Iterator[None]:
    if final is None:
        yield
    elif hasattr(final[0], "activation"):
        layer, activation = final[0], final[0].activation
        object.__setattr__(layer, "activation", lambda scores: scores)
        try:
            yield
        finally:
            object.__setattr__(layer, "activation", activation)
    else:  # the Softmax layer: its input is the logit
        object.__setattr__(final[0], "call", lambda scores, *args, **kwargs: scores)
        try:
            yield
        finally:
            object.__delattr__(final[0], "call")


@contextlib.contextmanager
def _without_xla(tf: Any) -> Iterator[None]:
    """Keras compiles grouped convolutions with XLA, which tf2onnx cannot read: trace them plain."""
    original = tf.function

    def function(*args: Any, jit_compile: Any = None, **kwargs: Any) -> Any:
        return original(*args, **kwargs)

    tf.function = function
    try:
        yield
    finally:
        tf.function = original


def _convert_erfc(context: Any, node: Any, name: str, args: Any) -> None:
    """Erfc(x) = 1 - Erf(x): exact GELU uses it, and tf2onnx does not know it."""
    dtype, shape = context.get_dtype(node.output[0]), context.get_shape(node.output[0])
    numpy_dtype = onnx.helper.tensor_dtype_to_np_dtype(dtype)
    context.remove_node(node.name)
    one = context.make_const(f"{name}_one", np.array(1, dtype=numpy_dtype))
    erf = context.make_node("Erf", list(node.input), shapes=[shape], dtypes=[dtype])
    context.make_node(
        "Sub",
        [one.output[0], erf.output[0]],
        outputs=list(node.output),
        name=name,
        shapes=[shape],
        dtypes=[dtype],
    )


def _check_converted(model: onnx.ModelProto, name: str) -> None:
    """tf2onnx leaves what it cannot convert in the graph, under its TensorFlow name."""
    domains = {opset.domain for opset in model.opset_import}
    foreign = sorted(
        {
            node.op_type
            for node in model.graph.node
            if node.domain not in ("", "ai.onnx")
            or not onnx.defs.has(node.op_type, max_inclusive_version=LATEST_OPSET)
        }
    )
    if foreign:
        raise ExportError(
            f"tf2onnx cannot convert {', '.join(foreign)} of {name!r} "
            f"(domains {sorted(domains)}); KERAS_BACKEND=torch takes another route"
        )


def _captured_tensors(traced: Any) -> dict[str, Any]:
    """The tensors, other than variables, that a function reads from around it, by input name."""
    function = traced.get_concrete_function()
    outside = function.captured_inputs
    inside = function.inputs[len(function.inputs) - len(outside) :]
    return {
        tensor.name.split(":")[0]: value
        for tensor, value in zip(inside, outside, strict=True)
        if tensor.dtype.name != "resource"
    }


def _store_weights(model: onnx.ModelProto, weights: Mapping[str, Any]) -> None:
    """Turn the weights among the graph's inputs into initializers."""
    inputs = {value.name.split(":")[0]: value for value in model.graph.input}
    for name, weight in weights.items():
        value = inputs.get(name)
        if value is not None:
            array = np.asarray(weight)
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))
            model.graph.input.remove(value)


def _set_names(model: onnx.ModelProto, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    # Inputs may come out in another order; they are known by their number.
    numbered = {value.name.split(":")[0]: value.name for value in model.graph.input}
    placed = zip(placeholders(INPUT, inputs), inputs, strict=True)
    wanted = {numbered[key]: name for key, name in placed if key in numbered}
    wanted |= dict(zip((value.name for value in model.graph.output), outputs, strict=True))
    rename(model, wanted)
    name_batch(model)


def _bytes(variable: Any) -> int:
    return int(np.prod(variable.shape)) * 4


def _to_numpy(tensor: Any) -> npt.NDArray[np.float32]:
    return np.asarray(tensor.numpy(), dtype=np.float32)
