"""The ONNX project's node tests, derived and compared with central differences: a table.

    python benchmarks/node_tests.py

Takes about two minutes; prints how many cases agree, and each kind of refusal with its cases.
"""

from __future__ import annotations

import collections
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))


def main() -> int:
    from helpers_node_tests import examine, node_cases

    outcomes = [examine(name, model, arrays) for name, model, arrays in node_cases()]
    print(f"{len(outcomes)} cases")
    for kind, count in collections.Counter(o.kind for o in outcomes).most_common():
        print(f"{count:6} {kind}")
    for kind in ("disagrees", "not run", "refused"):
        groups = collections.defaultdict(list)
        for outcome in outcomes:
            if outcome.kind == kind:
                groups[_group(outcome.reason)].append(outcome.name.removeprefix("test_"))
        print(f"\n## {kind}")
        for reason, names in sorted(groups.items()):
            print(f"{len(names):4} {reason}: {', '.join(names[:4])}{', ...' * (len(names) > 4)}")
    return 0


def _group(reason: str) -> str:
    """The operator and why, without names and advice."""
    reason = re.sub(r"; (choose a layer|no tensor with).*", "", reason)
    reason = re.sub(r" '[^']*' \(opset \w+\)", "", reason)
    return re.sub(r"^[-\d.e+]+ against .*", "", reason)[:110]


if __name__ == "__main__":
    raise SystemExit(main())
