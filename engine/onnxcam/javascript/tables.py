"""What Python and JavaScript have to agree on, as the JavaScript module `tables.js`."""

from __future__ import annotations

import base64
import json

from onnxcam.colormaps import COLORMAPS, find_colormap
from onnxcam.diagnosis import REASONS
from onnxcam.methods import METHODS
from onnxcam.painting import BLENDS

_FORM = """\
// Made by onnxcam from its Python tables; do not edit.

/** name of a method -> its name in print, where it comes from, its kernel */
export const METHODS = {methods};

/** name of a blend -> its usual alpha */
export const BLENDS = {blends};

/** why a map says nothing -> what that means and what to do */
export const REASONS = {reasons};

/** name of a colormap -> its 256 colours, uint8 [256, 3] */
export const COLORMAPS = {colormaps};

for (const [name, text] of Object.entries(COLORMAPS)) {{
  COLORMAPS[name] = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}}
"""


def tables() -> str:
    """The source of `tables.js`."""
    methods = {
        name: {"title": row.title, "paper": row.paper, "kernel": row.kernel}
        for name, row in METHODS.items()
    }
    colors = {
        name: base64.b64encode(find_colormap(name).tobytes()).decode("ascii") for name in COLORMAPS
    }
    return _FORM.format(
        methods=json.dumps(methods, indent=2),
        blends=json.dumps(BLENDS, indent=2),
        reasons=json.dumps(REASONS, indent=2),
        colormaps=json.dumps(colors, indent=2),
    )
