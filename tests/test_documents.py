"""YAML documents: the YAML 1.2 core schema, where everything stands, and what is refused."""

from __future__ import annotations

import copy
import json
import math
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simnet.documents import merge, parse, read
from simnet.errors import UserError

LETTERS = st.text(string.ascii_letters + string.digits + " _-.:#'\"\\/{}[],&*!|>%@", max_size=20)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | LETTERS
JSON_VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(LETTERS, inner, max_size=4), max_leaves=12
)
STRINGS = """
on off On OFF yes no Yes NO y n nan inf Infinity tRue nULL 1_000 0b11 1:30 190:20:30 0x 0xG 0o8 0X1F . +. e9 1e 1e+ 1.2.3 2.6.37
2012-07-30 10Gbps -- = <<
"""
TREES = st.recursive(st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=12)


def refusal(text: str) -> str:
    """The message with which a text is refused; it is one line."""
    with pytest.raises(UserError) as caught:
        parse(text, "f.yaml")
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e9", 1e9),
        ("1E+9", 1e9),
        ("-1.5e-3", -1.5e-3),
        (".5", 0.5),
        ("5.", 5.0),
        ("+12", 12),
        ("-0", 0),
        ("017", 17),
        ("0o17", 15),
        ("0x1F", 31),
        ("0xcafe", 0xCAFE),
        (".inf", math.inf),
        ("+.INF", math.inf),
        ("-.Inf", -math.inf),
        ("null", None),
        ("Null", None),
        ("NULL", None),
        ("~", None),
        ("", None),
        ("true", True),
        ("FALSE", False),
    ],
)
def test_plain_scalars_that_are_not_strings(text: str, value: Any) -> None:
    found = parse(f"x: {text}", "f.yaml").data["x"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", [".nan", ".NaN", ".NAN"])
def test_nan(text: str) -> None:
    assert math.isnan(parse(f"x: {text}", "f.yaml").data["x"])


@pytest.mark.parametrize("text", STRINGS.split())
def test_plain_scalars_that_yaml_1_2_leaves_strings(text: str) -> None:
    assert parse(f"x: {text}", "f.yaml").data == {"x": text}
    assert parse(f"[{text}]", "f.yaml").data == [text]


@pytest.mark.parametrize("text", ["1e9", "12", "0x10", "null", "~", "true", ".inf", ""])
def test_quoted_and_block_scalars_stay_strings(text: str) -> None:
    document = parse(f"a: '{text}'\nb: \"{text}\"\nc: |-\n  {text}\nd: >-\n  {text}\n'{text}': 1\n", "f.yaml")
    assert document.data == {"a": text, "b": text, "c": text, "d": text, text: 1}


def test_an_explicit_tag_wins_over_the_look_of_a_scalar() -> None:
    assert parse("x: !!str 12", "f.yaml").data == {"x": "12"}


@given(st.integers() | st.floats(allow_nan=False))
@settings(deadline=None)
def test_every_number_comes_back(number: float) -> None:
    text = repr(number).replace("inf", ".inf")
    found = parse(f"- {text}", "f.yaml").data[0]
    assert found == number
    assert type(found) is type(number)


@given(JSON_VALUES)
@settings(deadline=None)
def test_json_is_yaml(value: Any) -> None:
    assert parse(json.dumps(value), "f.yaml").data == value
    assert parse(json.dumps(value, indent=1), "f.yaml").data == value


def test_keys_are_resolved_like_values() -> None:
    assert parse("{64: 7, 0x5ee: 1, on: 2, 1.5: 3}", "f.yaml").data == {64: 7, 1518: 1, "on": 2, 1.5: 3}


def test_nested_flow_collections() -> None:
    document = parse("{a: [1, {b: [2, [3, ~]]}],\n c: {d: {}, e: []}}", "f.yaml")
    assert document.data == {"a": [1, {"b": [2, [3, None]]}], "c": {"d": {}, "e": []}}


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing but a comment\n", "---\n"])
def test_a_document_without_content(text: str) -> None:
    document = parse(text, "f.yaml")
    assert document.data is None
    assert document.where(("host",)).startswith("f.yaml")


def test_lines_of_keys_and_items() -> None:
    text = """\
# a comment
name: x

host:
  nic:
    irq_cpus: [1,
      2, 3]
  text: |
    several
    lines
list:
- a
-
  b: 1
"""
    document = parse(text, "f.yaml")
    expected: dict[tuple[str | int, ...], int] = {
        ("name",): 2,
        ("host",): 4,
        ("host", "nic"): 5,
        ("host", "nic", "irq_cpus"): 6,
        ("host", "nic", "irq_cpus", 0): 6,
        ("host", "nic", "irq_cpus", 2): 7,
        ("host", "text"): 8,
        ("list",): 11,
        ("list", 0): 12,
        ("list", 1, "b"): 14,
    }
    assert {path: document.where(path) for path in expected} == {path: f"f.yaml:{line}" for path, line in expected.items()}


@pytest.mark.parametrize(
    ("path", "line"),
    [(("host", "nic", "queues"), 2), (("host", "nic", "queues", 5, "x"), 2), (("host", "kernel"), 1), (("traffic",), 1)],
)
def test_what_is_not_in_the_document_is_at_its_nearest_parent(path: tuple[str | int, ...], line: int) -> None:
    assert parse("host:\n  nic: {model: a}\n", "f.yaml").where(path) == f"f.yaml:{line}"


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "a"),
        ("a:\n  b: 1\n  c: 2\n  b: 1\n", 4, "b"),
        ("a: {b: 1,\n b: 2}\n", 2, "b"),
        ("- x\n- a: 1\n  'a': 2\n", 3, "a"),
        ("64: 1\n0x40: 2\n", 2, "64"),
        ("~: 1\nnull: 2\n", 2, "None"),
    ],
)
def test_a_key_given_twice_is_refused(text: str, line: int, key: str) -> None:
    message = refusal(text)
    assert message.startswith(f"f.yaml:{line}: ")
    assert key in message
    assert "twice" in message


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        pytest.param("a: [1, 2\n", (1, 2), id="open bracket"),
        pytest.param("a: 1\n  b: 2\n", (2,), id="indentation"),
        pytest.param("a:\n\tb: 1\n", (2,), id="tab"),
        pytest.param("a: 1\nb: 'x\n", (2, 3), id="open quote"),
        pytest.param("a: 1\nb: @x\n", (2,), id="reserved character"),
        pytest.param("a: 1\n---\nb: 2\n", (2, 3), id="two documents"),
        pytest.param("a: 1\nb: *nowhere\n", (2,), id="unknown alias"),
        pytest.param("a: 1\n[x, y]: 2\n", (2,), id="list as key"),
        pytest.param("a: 1\nb: {? {c: d} : 2}\n", (2,), id="mapping as key"),
        pytest.param(
            "a: 1\nb: \x01\n",
            (2,),
            id="control character",
        ),
        pytest.param("a: 1\nb: &x 3\nc: *x\n", (2, 3), id="alias"),
        pytest.param("a: 1\nb: &x [*x]\n", (2,), id="alias of itself"),
        pytest.param("a: 1\nb: " + "[" * 3000 + "]" * 3000, (2,), id="nested too deep"),
        pytest.param("a: 1\nb: " + "9" * 5000, (2,), id="too many digits"),
    ],
)
def test_what_is_not_yaml_is_refused_with_its_line(text: str, lines: tuple[int, ...]) -> None:
    message = refusal(text)
    assert message.startswith(tuple(f"f.yaml:{line}: " for line in lines))


def test_a_file_is_named_in_its_messages(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes("a: é\nb: 1\n".encode())
    document = read(file)
    assert document.data == {"a": "é", "b": 1}
    assert document.where(("b",)) == f"{file}:2"


def test_a_byte_order_mark_and_dos_line_ends_do_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: x\r\n")
    document = read(file)
    assert document.data == {"a": 1, "b": "x"}
    assert document.where(("b",)) == f"{file}:2"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "latin1.yaml").write_bytes("a: é\n".encode("latin-1"))
    (tmp_path / "utf16.yaml").write_bytes("a: 1\n".encode("utf-16"))
    for name, reason in (
        ("missing.yaml", "No such file"),
        ("folder.yaml", "directory"),
        ("latin1.yaml", "UTF-8"),
        ("utf16.yaml", "UTF-8"),
        ("latin1.yaml/x.yaml", "Not a directory"),
    ):
        with pytest.raises(UserError, match=reason) as caught:
            read(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")


def leaves(tree: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """The values of a tree by path; an empty mapping is a value."""
    if not isinstance(tree, dict) or not tree:
        return {path: tree}
    return {p: value for key, inner in tree.items() for p, value in leaves(inner, (*path, key)).items()}


@given(st.dictionaries(st.sampled_from("abc"), TREES), st.dictionaries(st.sampled_from("abc"), TREES))
@settings(deadline=None)
def test_merge_puts_leaves_over_and_leaves_the_rest(base: dict[str, Any], changes: dict[str, Any]) -> None:
    kept = copy.deepcopy((base, changes))
    merged = merge(base, changes)
    assert (base, changes) == kept
    changed = {path: value for path, value in leaves(changes).items() if path and value != {}}
    found = leaves(merged)
    assert changed.items() <= found.items()
    for path, value in leaves(base).items():
        touched = any(path[: len(other)] == other or other[: len(path)] == path for other in leaves(changes))
        assert touched or found[path] == value


def test_merge_replaces_lists_and_takes_null_as_a_value() -> None:
    assert merge({"a": [1, 2], "b": {"c": 1, "d": 2}}, {"a": [3], "b": {"c": None}}) == {"a": [3], "b": {"c": None, "d": 2}}
