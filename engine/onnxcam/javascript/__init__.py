"""The npm package: explaining files in Node and in browsers, on the same kernels as Python.

Its sources lie in `npm/`; :func:`onnxcam.javascript.package.write_package` adds what is made:
`onnxcam.wasm`, and the tables that Python and JavaScript share.
"""
