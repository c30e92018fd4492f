"""The kernels compiled ahead of time: the shared library `libonnxcam`.

`table` says what there is; from its rows come the C header (`header`), what checks the arguments
(`entries`), the compiled code (`codegen`, in a process of its own, called by `build`) and the
Python functions that call it (`loader`). Only `codegen` needs numba, only `link` needs ziglang.
"""
