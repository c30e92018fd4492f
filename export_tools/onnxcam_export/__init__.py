"""Make explaining ONNX models: the gradient becomes part of the graph.

Examples:
    >>> from onnxcam_export import from_onnx
    >>> model = from_onnx("squeezenet.onnx", preprocess="imagenet")  # doctest: +SKIP
    >>> [output.name for output in model.graph.output]               # doctest: +SKIP
    ['logits', 'cam_activation', 'cam_gradient']
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from onnxcam.errors import MissingExtraError

if TYPE_CHECKING:
    import onnx

    from onnxcam_export.assemble import LabelsLike, PreprocessLike
    from onnxcam_export.loading import ModelLike
    from onnxcam_export.sources import LayerLike

__all__ = ["from_keras", "from_onnx", "from_torch"]


def from_onnx(
    model_or_path: ModelLike,
    layer: LayerLike = None,
    score: str = "logit",
    preprocess: PreprocessLike = None,
    labels: LabelsLike = None,
    output: str | os.PathLike[str] | None = None,
    *,
    activation: str | None = None,
    output_name: str | None = None,
    input_name: str | None = None,
    size: tuple[int, int] | None = None,
    target_input: bool = True,
    targets: int | None = None,
    emit: str = "gradient",
    method: str | None = None,
    heatmap_size: str | None = None,
    input: str = "model",
    score_of: str = "class",
    grid: tuple[int, int] | None = None,
    opset: int | None = None,
) -> onnx.ModelProto:
    """Make an explaining model of a plain ONNX model.

    Args:
        model_or_path: a path, the file's bytes, or an onnx.ModelProto.
        layer: the layer to explain, by tensor name, node name or the framework's name
            (`layer4.1.conv2`); `last_conv` for the last convolution; None for the last spatial
            activation before the spatial axes collapse. Several names give several layers in one
            file, the further ones with outputs `cam_activation_1`, `cam_gradient_1`, ...
        score: `logit` differentiates the score before a final Softmax or Sigmoid, `probability`
            what comes out of it.
        preprocess: preset name (`imagenet`, `caffe`, `tf`, `unit`, `none`), path of a JSON file,
            its content as a dict, or a Preprocessing; goes into the contract.
        labels: class names, or a file of them; as many as classes.
        output: where to write the file, if anywhere.
        activation: `softmax`, `sigmoid` or `none`, for a model that ends in logits and cannot
            say which function makes probabilities of them.
        output_name: which output is scored; the first by default.
        input_name: which input takes the picture; by default the only one, or the only one of
            four axes. The others stay as they are.
        size: (height, width) of the picture for `preprocess`, where the model leaves it open.
        target_input: False leaves `cam_target` out: always the class with the highest score.
        targets: K, for maps of K classes of each image in one run.
        emit: `gradient`; `weights`: its mean over space, which is all that Grad-CAM needs; or
            `heatmap`: the map itself, finished.
        method: of the heatmap, a key of :data:`onnxcam.methods.METHODS`; None for Grad-CAM.
        heatmap_size: of the heatmap: `map` (None), the layer's, or `input`, the picture input's.
        input: `model`, the model's own input; or `uint8`: pictures of the input's size as bytes,
            [N, H, W, 3] RGB ([N, H, W, 1] gray), normalised in the graph as `preprocess` says.
        score_of: `class`; or `element`, `region`, `dot`, `cosine`: a number made of the output,
            see :mod:`onnxcam_export.score_of`.
        grid: (height, width) of the grid on which the tokens of the named layer lie, for a
            sequence [N, tokens, channels] of which the graph does not tell it; the tokens
            beyond height * width (class and register tokens) stand in front.
        opset: the operator set of the result, 13 to 21, refused where it has no way to say what
            the graph computes. None for the source's own where it is among these and can be kept
            (of an older source the earliest that can say it).

    Returns:
        The model: original inputs and outputs, plus `cam_target` int64 [N] ([N, K] with
        `targets`), `cam_activation` float32 [N, C, *spatial], and `cam_gradient` of the same
        shape ([N, K, C, *spatial]) or `cam_weights` float32 [N, C] ([N, K, C]); or instead of
        both `cam_heatmap` float32 [N, h, w] ([N, K, h, w]) in [0, 1]: ReLU, divided by its
        maximum, zero everywhere where nothing is positive, NaN everywhere where the map holds
        NaN or infinite values.

    Raises:
        OnnxcamError: ModelError (unreadable file), LayerError, UnsupportedOpError, ExportError,
            PreprocessError, MethodError, ContractError (labels), MissingExtraError (onnx not
            installed).
    """
    need_onnx("exporting")
    from onnxcam_export.assemble import build
    from onnxcam_export.sources import onnx_file

    return build(
        onnx_file.capture(model_or_path), layer=layer, score=score, activation=activation,
        output_name=output_name, input_name=input_name, preprocess=preprocess, labels=labels,
        size=size, target_input=target_input, targets=targets, emit=emit, method=method,
        heatmap_size=heatmap_size, input=input, score_of=score_of, grid=grid, opset=opset,
        output=output,
    ).model  # fmt: skip


def from_torch(
    module: Any,
    example_input: Any,
    layer: LayerLike = None,
    score: str = "logit",
    preprocess: PreprocessLike = None,
    labels: LabelsLike = None,
    output: str | os.PathLike[str] | None = None,
    *,
    activation: str | None = None,
    output_name: str | None = None,
    input_name: str | None = None,
    target_input: bool = True,
    targets: int | None = None,
    emit: str = "gradient",
    method: str | None = None,
    heatmap_size: str | None = None,
    input: str = "model",
    score_of: str = "class",
    grid: tuple[int, int] | None = None,
    opset: int | None = None,
    dynamic_batch: bool = True,
) -> onnx.ModelProto:
    """Make an explaining model of a PyTorch module.

    The module is exported in eval mode and put back into the modes it was in.

    Args:
        module: a torch.nn.Module that maps one picture batch to [N, classes].
        example_input: a tensor [N, C, H, W]; only its shape and dtype matter.
        layer: a module path (`layer4.1.conv2`: the module's output), `last_conv`, a tensor name,
            several of these, or None for the last spatial activation. PyTorch itself puts out
            what modules return; other names are looked up in the exported graph.
        dynamic_batch: False fixes the batch to that of `example_input`.

    The other arguments, the result and the errors are those of :func:`from_onnx`.
    """
    need_onnx("exporting")
    from onnxcam_export.assemble import build
    from onnxcam_export.sources import pytorch

    source = pytorch.capture(module, example_input, layer, dynamic_batch=dynamic_batch)
    return build(
        source, layer=layer, score=score, activation=activation, output_name=output_name,
        input_name=input_name, preprocess=preprocess, labels=labels, target_input=target_input,
        targets=targets, emit=emit, method=method, heatmap_size=heatmap_size, input=input,
        score_of=score_of, grid=grid, opset=opset, output=output,
    ).model  # fmt: skip


def from_keras(
    model_or_path: Any,
    layer: LayerLike = None,
    score: str = "logit",
    preprocess: PreprocessLike = None,
    labels: LabelsLike = None,
    output: str | os.PathLike[str] | None = None,
    *,
    activation: str | None = None,
    output_name: str | None = None,
    input_name: str | None = None,
    size: tuple[int, int] | None = None,
    target_input: bool = True,
    targets: int | None = None,
    emit: str = "gradient",
    method: str | None = None,
    heatmap_size: str | None = None,
    input: str = "model",
    score_of: str = "class",
    grid: tuple[int, int] | None = None,
    opset: int | None = None,
) -> onnx.ModelProto:
    """Make an explaining model of a Keras 3 model.

    Works on the torch backend (no TensorFlow needed) and on the TensorFlow backend (with
    tf2onnx); the backend is the one that keras is imported with.

    Args:
        model_or_path: a keras.Model, or the path of a `.keras` or `.h5` file (loaded with
            safe_mode=True).
        layer: a Keras layer name (`block5_conv3`), `outer/inner` for nested models, `last_conv`,
            a tensor name, several of these, or None for the last spatial activation. Keras
            itself puts out what layers return; other names are looked up in the exported graph.

    The other arguments, the result and the errors are those of :func:`from_onnx`.
    """
    need_onnx("exporting")
    from onnxcam_export.assemble import build
    from onnxcam_export.sources import keras_model

    source = keras_model.capture(model_or_path, layer, input_size=size)
    return build(
        source, layer=layer, score=score, activation=activation, output_name=output_name,
        input_name=input_name, preprocess=preprocess, labels=labels, size=size,
        target_input=target_input, targets=targets, emit=emit, method=method,
        heatmap_size=heatmap_size, input=input, score_of=score_of, grid=grid, opset=opset,
        output=output,
    ).model  # fmt: skip


def need_onnx(what: str) -> None:
    """Say which extra to install when `what` needs onnx and it is not there."""
    try:
        import onnx  # noqa: F401
        import onnx_ir  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{what} needs the package {error.name!r}: pip install 'onnxcam[export]'"
        ) from error
