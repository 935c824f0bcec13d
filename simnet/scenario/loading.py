"""From a file or a built-in name to a checked scenario, with file:line in every message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from simnet.documents import Document, merge, parse, read
from simnet.errors import UserError, nearest
from simnet.scenario.schema import Scenario

_SUFFIXES = (".yaml", ".yml")


def built_in_scenarios() -> list[str]:
    """Names of the scenarios that come with simnet, as 'folder/name'."""
    root = resources.files("scenarios")
    return sorted(
        f"{folder.name}/{file.name.removesuffix('.yaml')}"
        for folder in root.iterdir()
        if folder.is_dir()
        for file in folder.iterdir()
        if file.name.endswith(".yaml")
    )


def _open(name_or_path: str) -> Document:
    if name_or_path.endswith(_SUFFIXES):
        return read(Path(name_or_path))
    names = built_in_scenarios()
    if name_or_path not in names:
        raise UserError(
            f"no scenario {name_or_path!r}: neither a .yaml file nor one of {', '.join(names)}{nearest(name_or_path, names)}"
        )
    folder, name = name_or_path.split("/")
    text = resources.files("scenarios").joinpath(folder, f"{name}.yaml").read_text(encoding="utf-8")
    return parse(text, f"scenario {name_or_path}")


def _stack(name_or_path: str) -> list[Document]:
    """The document and those it is based on, most basic first."""
    documents: list[Document] = []
    seen: list[str] = []
    following: str | None = name_or_path
    while following:
        if following in seen:
            raise UserError(
                f"{documents[0].where(('based_on',))}: based_on goes round in a circle: {' -> '.join([*seen, following])}"
            )
        seen.append(following)
        document = _open(following)
        if not isinstance(document.data, Mapping):
            raise UserError(f"{document.source}: not a scenario: expected keys such as traffic, capture, host")
        documents.insert(0, document)
        following = document.data.get("based_on")
        if following is not None and not isinstance(following, str):
            raise UserError(f"{document.where(('based_on',))}: based_on: expected a scenario's name or file, not {following!r}")
    return documents


def setting(text: str) -> tuple[tuple[str, ...], Any]:
    """Split a `path=value` as given to --set; the value is YAML.

    Raises
    ------
    UserError
        If there is no path or no equals sign.
    """
    path, equals, value = text.partition("=")
    if not equals or not all(path.split(".")):
        raise UserError(f"--set {text}: expected path=value, such as traffic.frame_bytes=256")
    return tuple(path.split(".")), parse(value, f"--set {text}").data


def _put(data: dict[str, Any], path: tuple[str, ...], value: Any, label: str) -> dict[str, Any]:
    head, *rest = path
    if not rest:
        return {**data, head: value}
    inner = data.get(head, {})
    if not isinstance(inner, Mapping):
        raise UserError(f"{label}: {head} is not a section")
    return {**data, head: _put(dict(inner), tuple(rest), value, label)}


def _fields_at(path: tuple[Any, ...]) -> list[str]:
    """Names that are allowed at a path of the schema."""
    model: Any = Scenario
    for part in path:
        field = model.model_fields.get(part) if isinstance(model, type) and issubclass(model, BaseModel) else None
        model = field.annotation if field else None
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _explain(error: ValidationError, documents: list[Document], settings: Mapping[tuple[str, ...], str]) -> UserError:
    """The first mistake, in the user's terms."""
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    path = tuple(
        part
        for part in first["loc"]
        if not (isinstance(part, str) and part.startswith(("function", "literal", "list[", "constrained", "int", "dict", "float")))
    )
    message = first["msg"].removeprefix("Value error, ")
    if not path:  # a check across fields names its field itself
        named, colon, rest = message.partition(": ")
        if colon and "." in named and " " not in named:
            path, message = tuple(named.split(".")), rest
    where = next((document.where(path) for document in reversed(documents) if path in document.lines), documents[-1].where(path))
    for set_path, label in settings.items():
        if path[: len(set_path)] == set_path:
            where = label
    name = ".".join(map(str, path))
    if first["type"] == "extra_forbidden":
        allowed = _fields_at(path[:-1])
        return UserError(f"{where}: unknown key {name!r}; allowed: {', '.join(allowed)}{nearest(str(path[-1]), allowed)}")
    given = "" if isinstance(first["input"], (dict, BaseModel)) or "not " in message else f" (given: {first['input']!r})"
    if first["type"] == "literal_error":
        expected = first["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
        options = [option.strip() for option in expected.split(",")]
        return UserError(
            f"{where}: {name}: {first['input']!r}; allowed: {', '.join(options)}{nearest(str(first['input']), options)}"
        )
    return UserError(f"{where}: {name}: {message}{given}")


def load(name_or_path: str, sets: Iterable[str] | Mapping[str, Any] = ()) -> Scenario:
    """Load a scenario and check it.

    Parameters
    ----------
    name_or_path
        A built-in name (see `built_in_scenarios`) or the path of a .yaml file.
    sets
        Changes: strings 'path=value' as on the command line, or a mapping from path to value.

    Raises
    ------
    UserError
        With file:line (or the --set), what was given, what is allowed, and the nearest name.
    """
    documents = _stack(name_or_path)
    data: dict[str, Any] = {}
    for document in documents:
        data = merge(data, document.data)
    data.pop("based_on", None)
    if isinstance(sets, Mapping):
        changes = [(tuple(path.split(".")), value, f"{path}={value}") for path, value in sets.items()]
    else:
        changes = [(*setting(text), f"--set {text}") for text in sets]
    for path, value, label in changes:
        data = _put(data, path, value, label)
    try:
        return Scenario.model_validate(data)
    except ValidationError as error:
        raise _explain(error, documents, {path: label for path, _, label in changes}) from None
