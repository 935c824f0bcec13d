"""YAML documents that remember where everything stands.

PyYAML's C parser gives the nodes; scalars are resolved by the YAML 1.2 core schema, so `1e9` is a number and `on` is a string. Anchors, aliases and
tags other than `!!str` are refused: nothing here needs them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from simnet.errors import NotFoundError, UserError

Path_ = tuple[str | int, ...]

MOST_LEVELS = 40
MOST_DIGITS = 400
_NULL = re.compile(r"(?:null|Null|NULL|~|)$")
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)$")
_INT = re.compile(r"[-+]?[0-9]+$|0x[0-9a-fA-F]+$|0o[0-7]+$")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$")
_STRING_TAG = "tag:yaml.org,2002:str"
_YAML_1_1: Any = yaml.SafeLoader("")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def scalar(text: str) -> Any:
    """A plain scalar by the YAML 1.2 core schema."""
    if _NULL.match(text):
        return None
    if _BOOL.match(text):
        return text.lower() == "true"
    if _INT.match(text):
        return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
    if _FLOAT.match(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


@dataclass
class Document:
    """Parsed content and the line of every key and item."""

    source: str
    data: Any
    lines: dict[Path_, int] = field(default_factory=dict)

    def where(self, path: Path_) -> str:
        """'file:line' of a path, or of its nearest parent that is in the document."""
        while path and path not in self.lines:
            path = path[:-1]
        line = self.lines.get(path)
        return f"{self.source}:{line}" if line else self.source


class _Conversion:
    """From nodes to Python objects, refusing what is not plain data."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.seen: set[int] = set()

    def refuse(self, node: yaml.Node, what: str) -> UserError:
        return UserError(f"{self.document.source}:{node.start_mark.line + 1}: {what}")

    def scalar(self, node: yaml.ScalarNode) -> Any:
        if node.style:
            return node.value
        if node.tag != _YAML_1_1.resolve(yaml.ScalarNode, node.value, (True, False)):
            if node.tag != _STRING_TAG:
                raise self.refuse(node, f"tags such as {node.tag!r} are not supported")
            return node.value
        if len(node.value) > MOST_DIGITS and (_INT.match(node.value) or _FLOAT.match(node.value)):
            raise self.refuse(node, f"a number of more than {MOST_DIGITS} digits")
        return scalar(node.value)

    def convert(self, node: yaml.Node, path: Path_) -> Any:
        if id(node) in self.seen:
            raise self.refuse(node, "aliases are not supported; write the value again")
        self.seen.add(id(node))
        if len(path) > MOST_LEVELS:
            raise self.refuse(node, "nested too deeply")
        self.document.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node)
        if isinstance(node, yaml.SequenceNode):
            return [self.convert(item, (*path, i)) for i, item in enumerate(node.value)]
        return self.mapping(node, path)

    def mapping(self, node: yaml.Node, path: Path_) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self.refuse(key_node, "a key must be a plain word or number")
            key = self.scalar(key_node)
            if key in result:
                raise self.refuse(key_node, f"{key!r} is given twice")
            self.document.lines[(*path, key)] = key_node.start_mark.line + 1
            result[key] = self.convert(value_node, (*path, key))
        return result


def parse(text: str, source: str) -> Document:
    """Parse YAML text; `source` names it in messages.

    Raises
    ------
    UserError
        With file:line, if the text is not YAML, uses aliases or tags, repeats a key or is nested too deeply.
    """
    document = Document(source, None)
    try:
        node = yaml.compose(text, Loader=_LOADER)
        if node is not None:
            document.data = _Conversion(document).convert(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise UserError(f"{source}:{mark.line + 1 if mark else 1}: not YAML: {error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UserError(f"{source}:{line}: not YAML: {error.reason}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{source}: not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise UserError(f"{source}: nested too deeply") from None
    return document


def read(path: Path, source: str | None = None) -> Document:
    """Read and parse a file; `source` names it in messages, if not its path.

    Raises
    ------
    UserError
        If it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise NotFoundError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: cannot be read: not UTF-8 text") from None
    except ValueError as error:  # a null byte in the name
        raise NotFoundError(f"{str(path)!r}: cannot be read: {error}") from None
    return parse(text, source or str(path))


def merge(base: Mapping[str, Any], changes: Mapping[str, Any], whole: Collection[str] = ()) -> dict[str, Any]:
    """A copy of `base` with the leaves of `changes` put over it; mappings under a key of `whole` are replaced as a whole."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        mergeable = isinstance(value, Mapping) and isinstance(old, Mapping) and key not in whole
        result[key] = merge(old or {}, value, whole) if mergeable else value
    return result
