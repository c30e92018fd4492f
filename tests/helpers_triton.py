"""Triton's model configuration: its fields, and what its onnxruntime backend checks.

The fields and their types are those of model_config.proto (triton-inference-server/common, also in
the package tritonclient); the checks follow `CompareDimsSupported` of its onnxruntime backend.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnxruntime as ort
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

_DATA_TYPES = (
    "INVALID BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 FP32 FP64 STRING BF16"
)
_ENUMS = {
    "DataType": [f"TYPE_{name}" for name in _DATA_TYPES.split()],
    "Kind": ["KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"],
}
# message -> field: type; a star: repeated
_MESSAGES = {
    "Reshape": {"shape": "int64*"},
    "Tensor": {
        "name": "string", "data_type": "DataType", "dims": "int64*", "reshape": "Reshape",
        "label_filename": "string",
    },
    "Parameter": {"string_value": "string"},
    "Entry": {"key": "string", "value": "Parameter"},
    "DynamicBatching": {},
    "InstanceGroup": {"count": "int32", "kind": "Kind"},
    "ModelConfig": {
        "name": "string", "backend": "string", "default_model_filename": "string",
        "max_batch_size": "int32", "input": "Tensor*", "output": "Tensor*",
        "dynamic_batching": "DynamicBatching", "instance_group": "InstanceGroup*",
        "parameters": "Entry*",
    },
}  # fmt: skip

# onnxruntime's names of types: Triton's, by its table of datatypes
OF_ONNXRUNTIME = {
    "tensor(float)": "TYPE_FP32", "tensor(float16)": "TYPE_FP16", "tensor(double)": "TYPE_FP64",
    "tensor(int64)": "TYPE_INT64", "tensor(int32)": "TYPE_INT32", "tensor(uint8)": "TYPE_UINT8",
    "tensor(bool)": "TYPE_BOOL",
}  # fmt: skip


def parse(text: str):
    """The configuration as protobuf reads it; unknown fields and wrong types are errors."""
    return text_format.Parse(text, _model_config()())


def real_model_config():
    """The message class of the package tritonclient, None where that is not installed."""
    spec = importlib.util.find_spec("tritonclient")
    if spec is None or not spec.submodule_search_locations:
        return None
    # The file alone: its package wants grpc.
    path = Path(spec.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    own = importlib.util.spec_from_file_location("triton_model_config_pb2", path)
    module = importlib.util.module_from_spec(own)
    own.loader.exec_module(module)
    return module.ModelConfig


@lru_cache
def _model_config():
    file = descriptor_pb2.FileDescriptorProto(name="triton_test.proto", package="t")
    file.syntax = "proto3"
    field_type = descriptor_pb2.FieldDescriptorProto
    for name, values in _ENUMS.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), 1):
            plain = kind.rstrip("*")
            label = field_type.LABEL_REPEATED if "*" in kind else field_type.LABEL_OPTIONAL
            added = message.field.add(name=field, number=number, label=label)
            if plain in _ENUMS or plain in _MESSAGES:
                added.type = field_type.TYPE_ENUM if plain in _ENUMS else field_type.TYPE_MESSAGE
                added.type_name = f".t.{plain}"
            else:
                added.type = getattr(field_type, f"TYPE_{plain.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.ModelConfig"))


class Server:
    """Takes requests as Triton does for a model of a repository; onnxruntime runs them."""

    def __init__(self, folder: Path) -> None:
        self.config = parse((folder / "config.pbtxt").read_text(encoding="utf-8"))
        assert self.config.name == folder.name
        assert self.config.backend == "onnxruntime"
        path = folder / "1" / self.config.default_model_filename
        self.session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self._check(self.config.input, self.session.get_inputs(), exact=False)
        self._check(self.config.output, self.session.get_outputs(), exact=True)
        for tensor in self.config.output:
            assert not tensor.label_filename or (folder / tensor.label_filename).is_file()

    def _check(self, configured, found, *, exact: bool) -> None:
        assert [t.name for t in configured] == [t.name for t in found]
        batched = self.config.max_batch_size > 0
        for tensor, info in zip(configured, found, strict=True):
            model_shape = [d if isinstance(d, int) else -1 for d in info.shape]
            assert tensor.dims, "the empty shape is not allowed"
            dims = list(tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims)
            if batched:
                assert model_shape and model_shape[0] == -1, info.name
                dims = [-1, *dims]
            if model_shape:
                assert len(dims) == len(model_shape), info.name
                for a, b in zip(dims, model_shape, strict=True):
                    assert a == b or (not exact and b == -1), info.name
            types = type(tensor).DESCRIPTOR.fields_by_name["data_type"].enum_type
            name = types.values_by_number[tensor.data_type].name
            assert name == OF_ONNXRUNTIME[info.type]

    def infer(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One run for the tensors of a request, or of several put together along the batch."""
        feeds = {}
        for tensor in self.config.input:
            value = inputs[tensor.name]
            dims = list(tensor.dims)
            asked = value.shape[1:] if self.config.max_batch_size else value.shape
            assert len(asked) == len(dims), tensor.name
            assert all(d in (-1, side) for d, side in zip(dims, asked, strict=True)), tensor.name
            if tensor.HasField("reshape"):
                value = value.reshape(len(value), *tensor.reshape.shape)
            feeds[tensor.name] = value
        names = [t.name for t in self.config.output]
        return dict(zip(names, self.session.run(names, feeds), strict=True))

    def answer(self, document: dict, labels: list[str]) -> dict:
        """The answer to a request of the v2 protocol, with Triton's extension `classification`."""
        types = {"FP32": np.float32, "INT64": np.int64, "FP16": np.float16, "UINT8": np.uint8}
        inputs = {
            t["name"]: np.array(t["data"], types[t["datatype"]]).reshape(t["shape"])
            for t in document["inputs"]
        }
        found, outputs = self.infer(inputs), []
        for asked in document["outputs"]:
            value, kind = found[asked["name"]], "FP32"
            if count := asked.get("parameters", {}).get("classification"):
                best = np.argsort(-value, axis=1)[:, :count]
                rows = zip(value, best, strict=True)
                value = np.array([[f"{v[i]}:{i}:{labels[i]}" for i in b] for v, b in rows])
                kind = "BYTES"
            outputs.append(
                {"name": asked["name"], "datatype": kind, "shape": list(value.shape),
                 "data": value.ravel().tolist()}
            )  # fmt: skip
        return {"model_name": self.config.name, "model_version": "1", "outputs": outputs}
