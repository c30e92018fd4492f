"""Predictions for people (a table) and for programs (a JSON document)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from onnxcam.result import Prediction, Result


def as_table(predictions: Sequence[Prediction]) -> str:
    """An aligned table, the explained class marked with a star.

    The columns synset, label and probability appear where the predictions have them; raw
    outputs show their score instead of a probability.
    """
    columns: list[tuple[str, str, list[str]]] = [
        ("", "<", ["*" if each.chosen else "" for each in predictions]),
        ("index", ">", [str(each.index) for each in predictions]),
    ]
    if any(each.synset for each in predictions):
        columns.append(("synset", "<", [each.synset or "" for each in predictions]))
    if any(each.label for each in predictions):
        columns.append(("label", "<", [each.label or "" for each in predictions]))
    if all(each.probability is None for each in predictions):
        columns.append(("score", ">", [f"{each.score:.5g}" for each in predictions]))
    else:
        columns.append(("probability", ">", [_percent(each.probability) for each in predictions]))
    widths = [max(map(len, (title, *cells))) for title, _, cells in columns]
    rows = [[title for title, _, _ in columns]]
    rows += [list(row) for row in zip(*(cells for _, _, cells in columns), strict=True)]
    lines = (
        "  ".join(
            f"{cell:{side}{width}}"
            for cell, width, (_, side, _) in zip(row, widths, columns, strict=True)
        )
        for row in rows
    )
    return "\n".join(f"  {line}".rstrip() for line in lines)


def as_document(result: Result, k: int) -> dict[str, Any]:
    """What the command prints with --json for one picture; NaN and infinity become null."""
    height, width = result.picture.shape[:2]
    chosen = next(each for each in result.top(k) if each.chosen)
    diagnosis = result.diagnosis
    document = {
        "width": width,
        "height": height,
        "target": result.target,
        "label": result.label,
        "synset": result.synset,
        "score": chosen.score,
        "probability": chosen.probability,
        "method": result.method,
        "seen": list(result.rectangle),
        "top": [asdict(each) for each in result.top(k)],
        "diagnosis": {
            "minimum": diagnosis.minimum,
            "maximum": diagnosis.maximum,
            "positive_share": diagnosis.positive_share,
            "reason": diagnosis.reason,
            "sentence": diagnosis.sentence or None,
        },
    }
    finite: dict[str, Any] = _finite(document)
    return finite


def _percent(probability: float | None) -> str:
    return "" if probability is None else f"{100 * probability:.2f} %"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
