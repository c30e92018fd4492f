"""Networks for the sweep: built with random weights that let nothing vanish, and exported."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import sweep_models as table
import torch
from sweep_oracle import Autograd

from onnxcam_export.sources import Source
from onnxcam_export.sources._torch_export import quiet

BATCH = 5  # an odd number of pictures has a median
SIDES = (64, 96, 128, 160, 192)  # tried in turn before the network's own input size


@dataclass
class Network:
    """A network, pictures for it, and how to run and export it."""

    library: str
    name: str
    model: Any
    pictures: np.ndarray

    @property
    def side(self) -> int:
        return int(self.pictures.shape[-2])

    @property
    def parameters(self) -> int:
        return sum(int(np.prod(p.shape)) for p in _parameters(self.model))

    def with_pictures(self, seed: int) -> Network:
        """The same network with other random pictures."""
        shape = self.pictures.shape
        pictures = np.random.default_rng(seed).standard_normal(shape, np.float32)
        return Network(self.library, self.name, self.model, pictures)

    def autograd(self, dtype: torch.dtype) -> Autograd:
        model = self.model
        if dtype != torch.float32:
            keras = self.library == "keras"
            model = keras_twin(self) if keras else copy.deepcopy(model).to(dtype)
        forward: Callable[[torch.Tensor], torch.Tensor] = model
        if self.library == "keras":
            forward = lambda x: model(x, training=False)  # noqa: E731
        return Autograd(lambda x: _first(forward(x)), torch.from_numpy(self.pictures).to(dtype))


def build_network(library: str, name: str) -> Network:
    if library == "keras":
        return _keras(name)
    return _torch(library, name)


def capture(network: Network, cache: Path | None, row: dict[str, Any]) -> tuple[Source, Network]:
    """Export, or take the export of an earlier run: building is repeatable, exporting is slow."""
    if cache is None:
        return _export(network, row)
    cache.mkdir(parents=True, exist_ok=True)
    suffix = "-torchscript" if row["exporter"] == "torchscript" else ""
    path = cache / f"{network.library}-{network.name}{suffix}.onnx"
    note = path.with_suffix(".json")
    if note.exists():
        notes = json.loads(note.read_text())
        row.update(notes["row"])
        if row.get("exported with"):
            network = _without_fused_attention(network)
        source = Source(onnx.load(path), picture_layout=notes["layout"])
        return source, network
    source, network = _export(network, row)
    onnx.save(source.model, path)
    kept = {key: row[key] for key in ("exported with", "exporter") if key in row}
    note.write_text(json.dumps({"layout": source.picture_layout, "row": kept}))
    return source, network


def _without_fused_attention(network: Network) -> Network:
    import timm

    timm.layers.set_fused_attn(False)
    torch.manual_seed(0)
    return build_network(network.library, network.name)


def _torchscript(network: Network) -> Source:
    """torch's older exporter, ten times as fast: files as many people still make them."""
    buffer = io.BytesIO()
    with quiet():
        torch.onnx.export(
            network.model,
            (torch.from_numpy(network.pictures),),
            buffer,
            dynamo=False,
            opset_version=18,
            input_names=["x"],
            output_names=["output"],
        )
    return Source(onnx.load_model_from_string(buffer.getvalue()), picture_layout="NCHW")


def _export(network: Network, row: dict[str, Any]) -> tuple[Source, Network]:
    """Export without a further output; without fused attention where torch.onnx fails on it."""
    from onnxcam.errors import ExportError
    from onnxcam_export.sources import keras_model, pytorch

    if network.library == "keras":
        return keras_model.capture(network.model), network
    if row["exporter"] == "torchscript":
        with contextlib.suppress(Exception):  # of what it cannot do, the other may be capable
            return _torchscript(network), network
        row["exporter"] = "dynamo"
    example = torch.from_numpy(network.pictures)
    try:
        return pytorch.capture(network.model, example), network
    except ExportError:
        if network.library != "timm":
            raise
        network = _without_fused_attention(network)
        source = pytorch.capture(network.model, torch.from_numpy(network.pictures))
        row["exported with"] = "timm.layers.set_fused_attn(False)"
        return source, network


def _torch(library: str, name: str) -> Network:
    model, side = _at_smallest_size(library, name)
    pictures = np.random.default_rng(0).standard_normal((BATCH, 3, side, side), np.float32)
    _liven(model)
    _settle(model, torch.from_numpy(pictures))
    return Network(library, name, model, pictures)


def _at_smallest_size(library: str, name: str) -> tuple[Any, int]:
    """The model in eval mode, and the smallest input that it takes."""
    if library == "torchvision":
        from helpers_torchvision import torchvision

        models = torchvision.models
        if name in table.NARROWED:
            return table.NARROWED[name](models).eval(), table.TORCHVISION_SIZES.get(name, 64)
        side = table.TORCHVISION_SIZES.get(name, 64)
        kwargs: dict[str, Any] = {"num_classes": table.CLASSES}
        if name in ("googlenet", "inception_v3"):
            kwargs["init_weights"] = True
        if name.startswith("vit"):
            kwargs["image_size"] = side = 2 * int(name.split("_")[-1])
        return getattr(models, name)(**kwargs).eval(), side
    import timm

    configuration = timm.get_pretrained_cfg(name)
    native = configuration.input_size[-1]
    lowest = table.TIMM_SIZES.get(name, 0)
    for side in [side for side in SIDES if lowest <= side < native] + [native]:
        kwargs = {"num_classes": table.CLASSES, **table.TIMM_ARGUMENTS.get(name, {})}
        if configuration.fixed_input_size and side < native:
            kwargs["img_size"] = side
        try:
            model = timm.create_model(name, **kwargs).eval()
            with torch.no_grad():
                model(torch.zeros(1, 3, side, side))
            return model, side
        except Exception:  # too small for its strides or windows, or no such argument
            if side == native:
                raise
    raise AssertionError("unreachable")


def _keras_model(name: str, side: int) -> Any:
    import keras

    build = getattr(keras.applications, name)
    return build(weights=None, input_shape=(side, side, 3), classes=table.CLASSES)


def _keras(name: str) -> Network:
    import keras

    keras.utils.set_random_seed(0)
    side = table.KERAS_SIZES.get(name, 64)
    model = _keras_model(name, side)
    pictures = np.random.default_rng(0).standard_normal((BATCH, side, side, 3), np.float32)
    _liven_keras(keras, model)
    norms = [x for x in model._flatten_layers() if isinstance(x, keras.layers.BatchNormalization)]
    dense = model.layers[-1]
    with torch.no_grad():
        if norms:
            momenta = [norm.momentum for norm in norms]
            for norm in norms:
                norm.momentum = 0.0
            model(pictures, training=True)
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
        function = dense.activation
        dense.activation = keras.activations.linear
        scores = keras.ops.convert_to_numpy(model(pictures, training=False))
        spread = float(np.sqrt(np.square(scores).mean()))
        if hasattr(dense, "kernel") and spread > 0:
            dense.kernel.assign(dense.kernel / spread)
        dense.activation = function
    return Network("keras", name, model, pictures)


def keras_twin(network: Network) -> Any:
    """The same network in float64: Keras layers keep the dtype that they were built with."""
    import keras

    keras.utils.clear_session(free_memory=False)  # numbered names start from the beginning again
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        twin = _keras_model(network.name, network.side)
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")
    twin.set_weights([np.asarray(weight, np.float64) for weight in network.model.get_weights()])
    return twin


def _parameters(model: Any) -> list[Any]:
    return list(model.parameters()) if isinstance(model, torch.nn.Module) else model.weights


def _first(output: Any) -> torch.Tensor:
    leaves = torch.utils._pytree.tree_leaves(output)
    tensor: torch.Tensor = next(x for x in leaves if isinstance(x, torch.Tensor))
    return tensor


def _liven(model: torch.nn.Module) -> None:
    """Draw what was initialised to a constant: layer scales of 1e-6, gains and biases of 0.

    They leave a fresh network without the branches that they multiply.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            constant = parameter.numel() == 1 or float(parameter.std()) == 0
            if not constant or not parameter.is_floating_point():
                continue
            value = float(parameter.flatten()[0])
            if parameter.ndim == 1 and value == 0 and parameter.numel() > 1:  # a bias
                parameter.normal_(0, 0.1)
            elif abs(value) < 0.5:
                parameter.normal_(0.4, 0.1)
            else:
                parameter.mul_(1 + 0.1 * torch.randn_like(parameter))


def _liven_keras(keras: Any, model: Any) -> None:
    random = np.random.default_rng(2)
    for layer in model._flatten_layers():
        if not isinstance(layer, keras.layers.Normalization):
            for weight in layer._trainable_variables:
                value = np.array(weight)
                if value.std() == 0 and abs(value.flat[0]) < 0.5:
                    bias = value.flat[0] == 0
                    mean, deviation = (0, 0.1) if bias else (0.4, 0.1)
                    weight.assign(random.normal(mean, deviation, value.shape))


def _settle(model: torch.nn.Module, batch: torch.Tensor) -> None:
    """Batch-norm statistics of the pictures; a classifier whose scores are about 1.

    With the statistics of other random pictures, values grow from layer to layer where the last
    stages have few pixels, and two runtimes' roundings end in different scores.
    """
    norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    with torch.no_grad():
        for norm in norms:
            norm.momentum = 1.0
            norm.train()
        model(batch)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
        spread = float(_first(model(batch)).square().mean().sqrt())
        layers = [
            m for m in model.modules()
            if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d))
            and m.weight.shape[0] == table.CLASSES
        ]  # fmt: skip
        for layer in layers[-1:]:
            layer.weight /= spread
