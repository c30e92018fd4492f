"""Measurements as JSON lines: written one by one, so that an interrupted run keeps what it has."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnxcam.cli.timing import interleaved, quartiles

Road = Callable[[], object]


class Records:
    """A file of records, one a line, each with a unique `key`; None for no file."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.by_key: dict[str, dict[str, Any]] = {}
        if path is not None and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    record = json.loads(line)
                    self.by_key[record["key"]] = record
                except (ValueError, KeyError, TypeError):
                    continue  # the line that was being written when the run was interrupted

    def __contains__(self, key: str) -> bool:
        return key in self.by_key

    def add(self, record: dict[str, Any]) -> None:
        """Keep a record, in the file as well."""
        self.by_key[record["key"]] = record
        if self.path is None:
            return
        broken = self.path.exists() and not self.path.read_bytes().endswith(b"\n")
        with self.path.open("a", encoding="utf-8") as stream:
            # An interrupted run may have left half a line.
            start = "\n" if broken else ""
            stream.write(start + json.dumps(record, ensure_ascii=False) + "\n")


def measure(
    roads: Mapping[str, Road], seconds: float, base: str, pause: float = 0.0
) -> dict[str, Any]:
    """Interleaved times: milliseconds of every road, and its ratio to `base`, round by round."""
    times = interleaved(roads, seconds, pause=pause)
    return {
        "base": base,
        "rounds": len(times[base]),
        "milliseconds": {name: quartiles(1e3 * taken) for name, taken in times.items()},
        "ratios": {name: quartiles(taken / times[base]) for name, taken in times.items()},
    }


def compare(found: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    """Largest difference and correlation of two arrays of the same shape."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    if found.shape != expected.shape:
        raise ValueError(f"shapes differ: {found.shape} and {expected.shape}")
    correlation = np.corrcoef(found.ravel(), expected.ravel())[0, 1]
    return {
        "difference": float(np.abs(found - expected).max()),
        "correlation": float(correlation),
    }


def show(record: dict[str, Any]) -> None:
    """One measurement as a table."""
    print(f"\n{record['key']} ({record['rounds']} rounds, times as large as {record['base']})")
    for name, found in record["milliseconds"].items():
        ratio = record["ratios"][name]
        check = record["checked"].get(name)
        said = f"  map differs by {check['difference']:.1e}" if check else ""
        print(
            f"  {name:44} {found['median']:10.2f} ms {ratio['median']:8.2f} "
            f"({ratio['lower']:.2f} to {ratio['upper']:.2f}){said}"
        )
    for name, reason in record.get("skipped", {}).items():
        print(f"  {name:44} skipped: {reason}")
    print(end="", flush=True)
