from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flyweight.data import json_stream
from flyweight.data.json_stream import split_json

# Text that looks like a cut, and letters of several bytes.
TEXT = st.text(alphabet='ab{}[],: "\\é漢😀\n', max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
ENTRIES = st.lists(st.dictionaries(TEXT, VALUES, max_size=3) | VALUES, max_size=12)
FILES = st.fixed_dictionaries(
    {}, optional={"images": ENTRIES, "annotations": ENTRIES, "info": VALUES, "notes": VALUES}
)


@pytest.fixture(params=[1, 30, 8 << 20])
def part_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(json_stream, "PART_BYTES", request.param)
    monkeypatch.setattr(json_stream, "VALUE_BYTES", max(request.param, 40))
    value: int = request.param
    return value


def joined(data: bytes) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for name, entries in split_json(data, ("images", "annotations")):
        found.setdefault(name, []).extend(entries)
    return found


@given(
    content=FILES,
    style=st.sampled_from([{}, {"indent": 2}, {"separators": (",", ":")}]),
    ascii_only=st.booleans(),
    mark=st.booleans(),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_parts_are_what_json_reads(
    part_bytes: int, content: Any, style: Any, ascii_only: bool, mark: bool
) -> None:
    text = json.dumps(content, ensure_ascii=ascii_only, **style)
    data = text.encode("utf-8-sig" if mark else "utf-8")
    lists = {name: content[name] for name in ("images", "annotations") if name in content}
    assert joined(data) == lists


@given(content=FILES, data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_that_ends_early_is_an_error(
    part_bytes: int, content: Any, data: st.DataObject
) -> None:
    text = json.dumps(content).encode()
    with pytest.raises(ValueError):
        joined(text[: data.draw(st.integers(0, len(text) - 1))])


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '{"images": []} 1',
        '{"images": [],}',
        '{"images": [{},]}',
        '{"images": [{} {}]}',
        '{"images": [{}, {}] "info": 1}',
        '{"images": [], "images": []}',
        "{1: 2}",
        '{"images": ["\udcff"]}',
    ],
)
def test_what_is_no_json_object_of_lists_is_an_error(part_bytes: int, text: str) -> None:
    with pytest.raises(ValueError):
        joined(text.encode("utf-8", "surrogateescape"))


def test_parts_are_small() -> None:
    entries = [{"id": number, "segmentation": [[0.5] * 40]} for number in range(100_000)]
    data = json.dumps({"annotations": entries}).encode()
    parts = [len(part) for _, part in split_json(data, ("annotations",))]
    assert sum(parts) == 100_000
    assert max(parts) < 1.1 * 100_000 * json_stream.PART_BYTES / len(data)
