"""The sweep's results as lines and as a Markdown table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

BAR = 1e-4  # at the default layer, against float32 autograd
RATIO = 3.0  # at one third of the depth, against float32 autograd's own error
FLOOR = 1e-6  # below it an error is rounding, and a ratio of two such errors says nothing

# Why a network is an exception, where that has been looked into.
CAUSES = {
    (
        "timm",
        "tnt_s_patch16_224",
    ): "its patches are made by unfolding, and no operator of the graph "
    "says how the tokens lie on the picture; it wants a layer and --grid",
}

Row = dict[str, Any]


def read(path: Path) -> Iterator[Row]:
    """The rows of a JSON lines file; of a network that is in it twice, both, in order."""
    if path.exists():
        with path.open() as file:
            for text in file:
                yield json.loads(text)


def verdict(row: Row) -> str:
    """`ok`, or what missed its bar."""
    if "error" in row:
        return str(row["error"])
    missed = [f"{name} is zero" for name in ("largest", "third largest") if not row[name] > 0]
    for name in ("default logit", "default probability"):
        pair = row.get(f"{name} 64")
        as_good = pair is not None and pair[0] <= RATIO * pair[1]
        if not row[name] <= BAR and not as_good:
            missed.append(f"{name} {row[name]:.1e}")
    ratio = third_ratio(row)
    if ratio is None:
        if not row["third logit"] <= BAR:
            missed.append(f"one third {row['third logit']:.1e}")
    elif not ratio <= RATIO:
        missed.append(f"one third {row['third logit 64'][0]:.1e}, {ratio:.1f} times autograd's own")
    return "; ".join(missed) or "ok"


def third_ratio(row: Row) -> float | None:
    """Error against float64 autograd / float32 autograd's own error, None where unknown."""
    pair = row.get("third logit 64")
    return None if pair is None else pair[0] / max(pair[1], FLOOR)


def line(row: Row) -> str:
    """One network on one line."""
    head = f"{row['library']} {row['name']} ({row['seconds']:.0f} s)"
    if "error" in row:
        return f"{head}: {row['error']}"
    ratio = third_ratio(row)
    return (
        f"{head}: {row['layer'] or row['tensor']} [{', '.join(row['shape'])}] "
        f"{row['default logit']:.1e} p {row['default probability']:.1e}; "
        f"third {row['third logit']:.1e} x{'?' if ratio is None else f'{ratio:.1f}'}"
        f"{'' if verdict(row) == 'ok' else '  MISSED'}"
    )


def markdown(rows: Sequence[Row]) -> str:
    """Totals by library, every exception with its cause, and the whole table."""
    parts = [
        "# Gradients against autograd\n",
        "Made by `python benchmarks/sweep_gradients.py --exporter torchscript --table "
        "benchmarks/sweep_results.md`; "
        "random weights, five pictures. Errors are relative to a picture's largest gradient: at "
        "the default layer the highest of all pictures, at one third of the depth the median "
        "(in float32 a ReLU flips for one picture and not for another).\n",
        "| library | networks | within the bars |",
        "|---|---|---|",
    ]
    libraries = sorted({row["library"] for row in rows})
    for library in libraries:
        own = [row for row in rows if row["library"] == library]
        good = sum(verdict(row) == "ok" for row in own)
        parts.append(f"| {library} | {len(own)} | {good} ({100 * good / len(own):.1f} %) |")
    parts += [
        f"\nBars: {BAR:g} of float32 autograd at the default layer, or no further from float64 "
        f"than {RATIO:g} times float32 autograd itself; at one third of the depth {RATIO:g} times "
        "float32 autograd's own error against float64 (1e-4 against float32 where a network "
        "does not run in float64).\n",
        "Operators between the layers at one third of the depth and the scores: "
        + ", ".join(sorted({name for row in rows for name in row.get("operators", [])}))
        + "\n",
        "## Exceptions\n",
    ]
    bad = [row for row in rows if verdict(row) != "ok"]
    parts += [
        f"- {row['library']} {row['name']}: {CAUSES.get((row['library'], row['name']), '')} "
        f"({verdict(row)})"
        for row in bad
    ] or ["none"]
    parts += [
        f"\n## Beyond {BAR:g} of float32 autograd at the default layer\n",
        f"Within the bars all the same: no further from float64 than {RATIO:g} times float32 "
        "autograd itself. A probability's derivative p (1 - p) loses digits in float32 where p "
        "is near 0 or 1.\n",
    ]
    parts += [
        f"- {row['library']} {row['name']}: {score} {row[name]:.1e}; from float64 ours "
        f"{row[f'{name} 64'][0]:.1e}, autograd's {row[f'{name} 64'][1]:.1e}"
        for row in rows
        for score in ("logit", "probability")
        if verdict(row) == "ok" and row[name := f"default {score}"] > BAR
    ] or ["none"]
    parts += [
        "\n## All\n",
        "| network | side | default layer | shape | logit | probability | layer at 1/3 | error "
        "| autograd's own | s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "error" in row:
            continue
        pair = row.get("third logit 64") or [row["third logit"], None]
        own_error = "" if pair[1] is None else f"{pair[1]:.1e}"
        parts.append(
            f"| {row['library']} {row['name']} | {row['side']} | {row['layer'] or row['tensor']} "
            f"| {' x '.join(row['shape'][1:])} | {row['default logit']:.1e} "
            f"| {row['default probability']:.1e} | {row['third layer'] or row['third tensor']} "
            f"| {pair[0]:.1e} | {own_error} | {row['seconds']:.0f} |"
        )
    return "\n".join(parts) + "\n"
