"""Write data/imagenet_labels.txt from the lists that torchvision and timm carry.

    python -m onnxcam_models.training.imagenet_labels [-o FILE.txt]

One line a class, in the usual order: synset id, space, name.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module, resources
from pathlib import Path

import onnxcam_models
from onnxcam_models.training.common import write_atomically


def lines() -> list[str]:
    """The 1000 lines: synset ids from timm, names from torchvision."""
    names = import_module("torchvision.models._meta")._IMAGENET_CATEGORIES
    file = resources.files("timm").joinpath("data", "_info", "imagenet_synsets.txt")
    synsets = file.read_text().split()
    return [f"{synset} {name}" for synset, name in zip(synsets, names, strict=True)]


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(onnxcam_models.__file__).parent / "data" / "imagenet_labels.txt"
    parser.add_argument("-o", "--output", type=Path, default=default)
    args = parser.parse_args(argv)
    write_atomically(args.output, ("\n".join(lines()) + "\n").encode())
    print(f"wrote {args.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
