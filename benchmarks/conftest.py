"""For `pytest benchmarks --benchmark-only`: the helpers of this folder and of the tests."""

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parent / "tests")]
