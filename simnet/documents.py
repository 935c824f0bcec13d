"""YAML documents that remember where everything stands.

PyYAML's C parser gives the nodes; scalars are resolved by the YAML 1.2 core schema, so `1e9` is a number and `on` is a string.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from simnet.errors import UserError

Path_ = tuple[str | int, ...]

_NULL = re.compile(r"(?:null|Null|NULL|~|)$")
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)$")
_INT = re.compile(r"[-+]?[0-9]+$|0x[0-9a-fA-F]+$|0o[0-7]+$")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$")


def scalar(text: str) -> Any:
    """A plain scalar by the YAML 1.2 core schema."""
    if _NULL.match(text):
        return None
    if _BOOL.match(text):
        return text.lower() == "true"
    if _INT.match(text):
        return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
    if _FLOAT.match(text):
        return float(text.replace(".inf", "inf").replace(".Inf", "inf").replace(".INF", "inf").lower().replace(".nan", "nan"))
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


def _convert(node: yaml.Node, path: Path_, document: Document) -> Any:
    document.lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.ScalarNode):
        return scalar(node.value) if not node.style else node.value
    if isinstance(node, yaml.SequenceNode):
        return [_convert(item, (*path, i), document) for i, item in enumerate(node.value)]
    result: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = _convert(key_node, (*path, "?"), document)
        document.lines.pop((*path, "?"), None)
        line = key_node.start_mark.line + 1
        if isinstance(key, (dict, list)):
            raise UserError(f"{document.source}:{line}: a key must be a plain word or number")
        if key in result:
            raise UserError(f"{document.source}:{line}: {key!r} is given twice")
        document.lines[(*path, key)] = line
        result[key] = _convert(value_node, (*path, key), document)
    return result


def parse(text: str, source: str) -> Document:
    """Parse YAML text; `source` names it in messages.

    Raises
    ------
    UserError
        With file:line, if the text is not YAML, uses aliases or repeats a key.
    """
    document = Document(source, None)
    try:
        node = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise UserError(f"{source}:{mark.line + 1 if mark else 1}: not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{source}: not YAML: {error}") from None
    if node is not None:
        document.data = _convert(node, (), document)
    return document


def read(path: Path) -> Document:
    """Read and parse a file.

    Raises
    ------
    UserError
        If it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UserError(f"{path}: cannot be read: {reason}") from None
    return parse(text, str(path))


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `base` with the leaves of `changes` put over it."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = merge(old, value) if isinstance(value, Mapping) and isinstance(old, Mapping) else value
    return result
