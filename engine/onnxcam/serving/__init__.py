"""Explaining files for inference servers: what they need beside the file.

- :mod:`.triton` writes Triton's configuration of a model,
- :mod:`.repository` lays file, configuration and labels out as a model repository,
- :mod:`.external_data` finds the files that weights were put into.

Part of the engine, not of the exporter: a server takes its inputs and outputs from onnxruntime, and
so does this; whoever deploys a file needs neither onnx nor the framework it came from. No server
is imported, run or contacted.
"""
