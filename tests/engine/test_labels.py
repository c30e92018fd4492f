from __future__ import annotations

import json

import pytest

from onnxcam.errors import InputError, TargetError
from onnxcam.labels import find_label, read_labels, split_synset

LABELS = (
    "n01440764 tench, Tinca tinca",
    "n02012849 crane",
    "n03126707 crane",
    "n02099601 golden retriever",
    "great_white_shark",
    "maillot",
    "maillot, tank suit",
)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", "cat\ndog, hound\n\n", ("cat", "dog, hound")),
        ("a.txt", "\ufeffcat\r\ndog\r\n", ("cat", "dog")),
        ("a.json", '["cat", "dog"]', ("cat", "dog")),
        ("a.json", '{"1": "dog", "0": "cat"}', ("cat", "dog")),
        ("a.json", '{"0": ["n01440764", "tench"]}', ("n01440764 tench",)),
    ],
)
def test_read(tmp_path, name, content, expected):
    path = tmp_path / name
    path.write_bytes(content.encode())
    assert read_labels(path) == expected


def test_more_than_ten_indices_are_not_sorted_as_text(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({str(i): f"class {i}" for i in range(12)}))
    assert read_labels(path)[10] == "class 10"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "no names"),
        ("a.txt", b"\xff\xfe\x00", "cannot read"),
        ("a.json", b"{", "a.json"),
        ("a.json", b'{"1": "dog"}', "0 is missing"),
        ("a.json", b"[1]", "expected a name"),
        ("a.json", b"3", "list or object"),
    ],
)
def test_bad_file(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_labels(path)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        read_labels(tmp_path / "none.txt")


def test_split_synset():
    assert split_synset("n01440764 tench, Tinca tinca") == ("n01440764", "tench, Tinca tinca")
    assert split_synset("n01440764") == ("n01440764", "n01440764")
    assert split_synset("nightingale") == (None, "nightingale")


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("0", 0),
        ("6", 6),
        ("n02012849", 1),
        ("Tinca Tinca", 0),
        ("tench, tinca tinca", 0),
        ("TENCH", 0),
        ("n02099601 golden retriever", 3),
        ("golden_retriever", 3),
        ("Great White Shark", 4),
        ("tank suit", 6),
        ("maillot, tank suit", 6),
    ],
)
def test_find(text, index):
    assert find_label(LABELS, text) == index


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("crane", r"1 \(crane\), 2 \(crane\); give the index"),
        ("maillot", r"5 \(maillot\), 6 \(maillot, tank suit\)"),
        ("retriever", "nearest are 'golden retriever'"),
        ("tenck", "nearest are 'tench'"),
        ("zzzzzzz", "no class has this name$"),
        ("7", "expected 0 to 6"),
        ("", "no class"),
    ],
)
def test_find_fails(text, message):
    with pytest.raises(TargetError, match=message):
        find_label(LABELS, text)
