"""`python -m onnxcam` is the `onnxcam` command."""

from onnxcam.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
