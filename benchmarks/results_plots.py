"""Bars of milliseconds per method, the plain forward pass as a line; SVG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

PLAIN = "onnxruntime, plain forward"
TASKS = ("batch 1", "ten classes", "end to end")
_OURS, _OTHERS = "#1f6f54", "#9aa5b1"


def draw_plots(records: Mapping[str, dict[str, Any]], folder: Path) -> list[Path]:
    """One picture a network of the comparison with PyTorch: `results-NETWORK.svg`."""
    networks = dict.fromkeys(key.split("/")[1] for key in records if key.startswith("torch/"))
    paths = []
    for network in networks:
        found = {task: records.get(f"torch/{network}/{task}") for task in TASKS}
        measured = {task: record for task, record in found.items() if record is not None}
        if measured:
            paths.append(folder / f"results-{network}.svg")
            _draw(network, measured, paths[-1])
    return paths


def _draw(network: str, measured: Mapping[str, dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    # The same records give the same file: no date, no random identifiers.
    matplotlib.rcParams["svg.hashsalt"] = "onnxcam"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        len(measured), figsize=(8, 2.9 * len(measured)), layout="constrained", squeeze=False
    )
    for axis, (task, record) in zip(axes[:, 0], measured.items(), strict=True):
        times = record["milliseconds"]
        names = [name for name in times if "plain" not in name][::-1]
        middles = [times[name]["median"] for name in names]
        spread = [
            [times[n]["median"] - times[n]["lower"] for n in names],
            [times[n]["upper"] - times[n]["median"] for n in names],
        ]
        colors = [_OURS if name == record["base"] else _OTHERS for name in names]
        axis.barh(names, middles, xerr=spread, color=colors, height=0.7, ecolor="#444444")
        plain = times[PLAIN]["median"]
        axis.axvline(plain, color="black", linestyle="--", linewidth=1, label=PLAIN)
        if max(middles) > 30 * plain:
            axis.set_xscale("log")
        axis.set_title(f"{network}, {task}", loc="left", fontsize=10)
        axis.set_xlabel("milliseconds (median and quartiles)", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.legend(fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
