"""Write the handwriting that ships: twenty held-out digits of each class, for the demo.

python -m onnxcam_models.training.handwriting [-o FILE.npz]
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from onnxcam_models import scenes
from onnxcam_models.training.common import digits, write_atomically

SEED = 1
OF_EACH = 20


def main(argv: Sequence[str] | None = None) -> int:
    """Choose the digits and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(scenes.__file__).parent / "data" / "unseen_handwriting.npz"
    parser.add_argument("-o", "--output", type=Path, default=default)
    args = parser.parse_args(argv)
    rng = np.random.default_rng(SEED)
    bitmaps, labels = digits(held_out=True)
    chosen = np.concatenate(
        [
            np.sort(rng.choice(np.flatnonzero(labels == digit), OF_EACH, replace=False))
            for digit in range(scenes.CLASSES)
        ]
    )
    buffer = io.BytesIO()
    np.savez_compressed(buffer, bitmaps=bitmaps[chosen], labels=labels[chosen].astype(np.uint8))
    write_atomically(args.output, buffer.getvalue())
    print(f"wrote {args.output} ({len(chosen)} digits, {args.output.stat().st_size} bytes)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
