"""A plain ONNX model as a source."""

from __future__ import annotations

from onnxcam_export.loading import ModelLike, load_proto, opset_of
from onnxcam_export.sources import Source


def capture(model: ModelLike) -> Source:
    """Read an ONNX model from a path, bytes or a ModelProto.

    Raises:
        ModelError: no such file, empty, truncated, not ONNX, or external data outside the folder.
    """
    proto = load_proto(model)
    producer = {"source": "onnx", "opset": str(opset_of(proto))}
    if proto.producer_name:
        producer["source_producer"] = f"{proto.producer_name} {proto.producer_version}".strip()
    return Source(model=proto, producer=producer)
