"""Which provider runs which of a model's nodes: what a provider can't do falls to the CPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onnxcam.providers import CPU, short_name

# Makes onnxruntime keep what Placement.of asks for; unknown before 1.24, and then ignored
RECORD = "session.record_ep_graph_assignment_info"
_NAMED = 6  # operators that a sentence names


@dataclass(frozen=True)
class Placement:
    """How many nodes of which operator run where.

    `nodes` maps onnxruntime's name of a provider to counts by operator, after onnxruntime's own
    optimisation of the graph; None where it does not tell (before 1.24).
    """

    nodes: Mapping[str, Mapping[str, int]] | None

    @staticmethod
    def of(session: Any) -> Placement:
        """The placement of an `onnxruntime.InferenceSession`, made with :data:`RECORD` on."""
        try:
            subgraphs = session.get_provider_graph_assignment_info()
        except Exception:  # there is no such method, or no record; no common base class
            return Placement(None)
        nodes: dict[str, Counter[str]] = {}
        for subgraph in subgraphs:
            counts = nodes.setdefault(subgraph.ep_name, Counter())
            counts.update(node.op_type for node in subgraph.get_nodes())
        return Placement({name: dict(counts) for name, counts in nodes.items()})

    @property
    def on_cpu(self) -> int | None:
        """How many nodes run on the CPU; None where that is not known."""
        return None if self.nodes is None else sum(self.nodes.get(CPU, {}).values())

    def __str__(self) -> str:
        """As `58 nodes on CUDA, 2 on CPU (Shape, Reshape)`."""
        if self.nodes is None:
            return "this onnxruntime does not tell which nodes run on the CPU (1.24 does)"
        counts = {name: sum(by_op.values()) for name, by_op in self.nodes.items()}
        parts = [f"{n} on {short_name(name)}" for name, n in counts.items() if name != CPU]
        if CPU in counts:
            operators = sorted(self.nodes[CPU], key=lambda op: -self.nodes[CPU][op])  # type: ignore[index]
            named = operators[:_NAMED] + (["..."] if len(operators) > _NAMED else [])
            parts.append(f"{counts[CPU]} on CPU ({', '.join(named)})")
        return "nodes: " + ", ".join(parts)
