"""`onnxcam web`: a static site that runs an explaining file in the visitor's browser."""
