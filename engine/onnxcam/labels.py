"""Class names: reading them, and finding the class that a user means."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onnxcam.errors import InputError, TargetError

_SYNSET = re.compile(r"(n\d{8})(?:[\s_:,]+(.*))?", re.DOTALL)


def read_labels(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read class names, in the order of the model's classes.

    Three forms: text with one name a line; a JSON list; a JSON object from index to name, or
    to [synset id, name] as Keras' imagenet_class_index.json (which becomes "synset name").

    Raises:
        InputError: the file can't be read, is empty, or its indices are not 0, 1, 2, ...
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"labels: cannot read '{file}': {error}") from error
    if file.suffix.lower() == ".json":
        try:
            names = _from_json(json.loads(text))
        except ValueError as error:
            raise InputError(f"labels: '{file}': {error}") from error
    else:
        names = [line.strip() for line in text.rstrip().splitlines()]
    if not any(names):
        raise InputError(f"labels: '{file}' holds no names")
    return tuple(names)


def _from_json(document: Any) -> list[str]:
    if isinstance(document, Mapping):
        wanted = [str(index) for index in range(len(document))]
        missing = [index for index in wanted if index not in document]
        if missing:
            raise ValueError(
                f"expected the indices 0 to {len(wanted) - 1}, {missing[0]} is missing"
            )
        document = [document[index] for index in wanted]
    if not isinstance(document, list):
        raise ValueError("expected a JSON list or object")
    return [_name(entry) for entry in document]


def _name(entry: Any) -> str:
    if isinstance(entry, list) and entry and all(isinstance(part, str) for part in entry):
        return " ".join(entry)
    if isinstance(entry, str):
        return entry
    raise ValueError(f"expected a name or [synset, name], got {entry!r}")


def split_synset(label: str) -> tuple[str | None, str]:
    """Split a WordNet synset id from a label; None where it has none.

    Examples:
        >>> split_synset("n01440764 tench, Tinca tinca")
        ('n01440764', 'tench, Tinca tinca')
        >>> split_synset("tench")
        (None, 'tench')
    """
    match = _SYNSET.fullmatch(label.strip())
    if match is None:
        return None, label
    return match[1], match[2] or match[1]


def find_label(labels: Sequence[str], text: str) -> int:
    """The index of the class that `text` means.

    In this order: an index in digits; a synset id; the full name or one of its comma-separated
    synonyms, in any case, underscores read as spaces.

    Raises:
        TargetError: no such class (the nearest names are given), or several (their indices are).

    Examples:
        >>> find_label(["tench, Tinca tinca", "goldfish"], "Tinca Tinca")
        0
    """
    wanted = _key(text)
    if wanted.isascii() and wanted.isdigit():
        index = int(wanted)
        if index >= len(labels):
            raise TargetError(f"target {index}: expected 0 to {len(labels) - 1}")
        return index
    found = [index for index, label in enumerate(labels) if wanted in _keys(label)]
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(f"{index} ({split_synset(labels[index])[1]})" for index in found)
        raise TargetError(f"target '{text}' names several classes: {several}; give the index")
    raise TargetError(f"target '{text}': no class has this name{_nearest(labels, wanted)}")


def _key(text: str) -> str:
    return " ".join(text.replace("_", " ").split()).casefold()


def _keys(label: str) -> set[str]:
    synset, name = split_synset(label)
    keys = {_key(part) for part in name.split(",")} | {_key(name), _key(label)}
    if synset is not None:
        keys.add(synset)
    return keys - {""}


def _nearest(labels: Sequence[str], wanted: str) -> str:
    names: dict[str, str] = {}
    for label in labels:
        for part in split_synset(label)[1].split(","):
            names.setdefault(_key(part), part.strip())
    import difflib

    near = difflib.get_close_matches(wanted, names, n=3)
    near += [key for key in names if len(wanted) > 2 and wanted in key and key not in near]
    if not near:
        return ""
    return "; nearest are " + ", ".join(f"'{names[key]}'" for key in near[:5])
