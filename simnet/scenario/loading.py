"""From a file or a built-in name to a checked scenario, with file:line in every message."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from simnet.documents import Document, merge, parse
from simnet.errors import NotFoundError, UserError, nearest
from simnet.kinds import SUFFIXES, Kind
from simnet.scenario.schema import Place, Places, Scenario

DESIGN_SUFFIX = ".design.yaml"
SCENARIOS = Kind("scenario", "traffic, capture, host", "scenarios", but=DESIGN_SUFFIX)
Model = TypeVar("Model", bound=BaseModel)
_SECTIONS = ("host", "guest", "traffic", "capture", "measure", "costs")


def built_in_scenarios() -> list[str]:
    """Names of the scenarios that come with simnet, as 'folder/name'."""
    return SCENARIOS.names()


BUILT_IN = "builtin:"


def data_file(path: str) -> Path:
    """The file that a scenario names: `builtin:folder/file` comes with simnet, like the built-in scenarios."""
    if path.startswith(BUILT_IN):
        return Path(str(resources.files("scenarios"))) / path.removeprefix(BUILT_IN)
    return Path(path)


def beside(document_name: str, path: str) -> str:
    """A path as written in a file: relative to the file's folder."""
    if path.startswith(BUILT_IN):
        return path
    return os.path.join(os.path.dirname(document_name), path) if document_name.endswith(SUFFIXES) else path


def _basis(document: Document, name: str) -> str | None:
    """What a document is based on, if anything."""
    wanted = document.data.get("based_on")
    if wanted is None:
        return None
    if not isinstance(wanted, str):
        raise UserError(f"{document.where(('based_on',))}: based_on: expected a scenario's name or file, not {wanted!r}")
    return beside(name, wanted) if wanted.endswith(SUFFIXES) else wanted


def stack(name_or_path: str) -> list[Document]:
    """A scenario's document and those it is based on, most basic first."""
    documents: list[Document] = []
    seen: list[str] = []
    following: str | None = name_or_path
    while following is not None:
        if following in seen:
            raise UserError(
                f"{documents[0].where(('based_on',))}: based_on goes round in a circle: {' -> '.join([*seen, following])}"
            )
        seen.append(following)
        try:
            document = SCENARIOS.open(following)
        except NotFoundError as error:
            if not documents:
                raise
            raise UserError(f"{documents[0].where(('based_on',))}: based_on: {error}") from None
        documents.insert(0, document)
        following = _basis(document, following)
    return documents


def setting(text: str, label: str | None = None) -> tuple[tuple[str, ...], Any]:
    """Split a `path=value` as given to --set, or to what `label` says; the value is YAML.

    Raises
    ------
    UserError
        If there is no path or no equals sign.
    """
    path, equals, value = text.partition("=")
    label = label or f"--set {text}"
    if not equals or not all(path.split(".")):
        raise UserError(f"{label}: expected path=value, such as traffic.frame_bytes=256")
    return tuple(path.split(".")), parse(value, label).data


def _put(data: dict[str, Any], path: tuple[str, ...], value: Any, label: str) -> dict[str, Any]:
    head, *rest = path
    if not rest:
        return {**data, head: value}
    inner = data.get(head, {})
    if not isinstance(inner, Mapping):
        raise UserError(f"{label}: {head} is not a section")
    return {**data, head: _put(dict(inner), tuple(rest), value, label)}


def _section(model: Any, part: Any) -> Any:
    """The type of a field of a section, or of what a mapping or list holds; None if there is no such field."""
    if get_origin(model) in (dict, list):
        return get_args(model)[-1]
    field = model.model_fields.get(part) if isinstance(model, type) and issubclass(model, BaseModel) else None
    if field is None:
        return None
    sections = [kind for kind in get_args(field.annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return sections[0] if sections else field.annotation


def _fields_at(path: Place, model: Any) -> list[str]:
    """Names that are allowed at a path of a schema."""
    for part in path:
        model = _section(model, part)
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _path_of(location: tuple[Any, ...], model: Any) -> Place:
    """The field that an error of pydantic is about: its location without what pydantic adds about unions and validators."""
    path: list[str | int] = []
    for part in location:
        is_section = isinstance(model, type) and issubclass(model, BaseModel)
        if not (is_section or isinstance(part, int) or get_origin(model) is dict):
            break
        path.append(part)
        model = _section(model, part)
    return tuple(path)


class _Places(Places):
    """Where each field was written: in a document, or in a --set."""

    def __init__(self, documents: list[Document], settings: Mapping[Place, str]) -> None:
        self.documents = documents
        self.settings = settings

    def __call__(self, path: Place) -> str:
        for set_path, label in self.settings.items():
            if path[: len(set_path)] == set_path or (path and set_path[: len(path)] == path):
                return label
        found = next((document.where(path) for document in reversed(self.documents) if path in document.lines), None)
        return found or self.documents[-1].where(path)


def explain(error: ValidationError, places: Callable[[Place], str], model: type[BaseModel]) -> UserError:
    """The first mistake, in the user's terms; `places` says where a field of the model was written."""
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    path = _path_of(first["loc"], model)
    message = first["msg"].removeprefix("Value error, ")
    if not path:  # a check across fields names its field itself
        named, colon, rest = message.partition(": ")
        if colon and "." in named and " " not in named:
            path, message = tuple(named.split(".")), rest
    where, name = places(path), ".".join(map(str, path))
    if first["type"] == "extra_forbidden":
        allowed = _fields_at(path[:-1], model)
        return UserError(f"{where}: unknown key {name!r}; allowed: {', '.join(allowed)}{nearest(str(path[-1]), allowed)}")
    if first["type"] == "literal_error":
        options = [o.strip() for o in first["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(",")]
        near = nearest(str(first["input"]), options)
        return UserError(f"{where}: {name}: {first['input']!r}; allowed: {', '.join(options)}{near}")
    if first["type"] in ("model_type", "model_attributes_type"):
        return UserError(f"{where}: {name}: expected keys such as {', '.join(_fields_at(path, model)[:4])}, not {first['input']!r}")
    if first["type"] == "dict_type":
        return UserError(f"{where}: {name}: expected names with values, not {first['input']!r}")
    given = "" if isinstance(first["input"], (dict, BaseModel)) or "not " in message else f" (given: {first['input']!r})"
    return UserError(f"{where}: {name}: {message}{given}")


def validated(model: type[Model], document: Document, name: str) -> Model:
    """What a document holds, checked; `name` is what it is called if it does not say.

    Raises
    ------
    UserError
        With file:line.
    """
    try:
        return model.model_validate({"name": name, **document.data})
    except ValidationError as error:
        raise explain(error, document.where, model) from None


def _data(documents: list[Document], names: str) -> dict[str, Any]:
    """The contents of a stack of documents over each other; empty sections are left out."""
    data: dict[str, Any] = {}
    for document in documents:
        content = {key: value for key, value in document.data.items() if value is not None or key not in _SECTIONS}
        traffic = content.get("traffic")
        if isinstance(traffic, Mapping) and isinstance(traffic.get("pcap"), str):
            content["traffic"] = {**traffic, "pcap": beside(document.source, traffic["pcap"])}
        data = merge(data, content, whole=("frame_bytes",))
    data.pop("based_on", None)
    data.setdefault("name", os.path.basename(names))
    return data


@dataclass(frozen=True)
class Change:
    """A field that is changed; `label` says in messages where."""

    path: tuple[str, ...]
    value: Any
    label: str


def build(documents: list[Document], name: str, changes: Iterable[Change]) -> Scenario:
    """Check the scenario that a stack of documents and some changes make.

    Raises
    ------
    UserError
        With file:line or the label of the change.
    """
    data = _data(documents, name)
    labels: dict[Place, str] = {}
    for change in changes:
        data = _put(data, change.path, change.value, change.label)
        labels[change.path] = change.label
    places = _Places(documents, labels)
    try:
        return Scenario.model_validate(data).written_at(places)
    except ValidationError as error:
        raise explain(error, places, Scenario) from None


def load(name_or_path: str, sets: Iterable[str] | Mapping[str, Any] = ()) -> Scenario:
    """Load a scenario and check it.

    Parameters
    ----------
    name_or_path
        A built-in name (see `built_in_scenarios`) or the path of a .yaml file. Paths written in a file are relative to its folder.
    sets
        Changes: strings 'path=value' as on the command line, or a mapping from path to value.

    Raises
    ------
    UserError
        With file:line (or the --set), what was given, what is allowed, and the nearest name.
    """
    return _checked(stack(name_or_path), name_or_path, sets)


def load_document(document: Document, sets: Iterable[str] | Mapping[str, Any] = ()) -> Scenario:
    """The scenario that a document holds in full, such as a result's provenance (see `load`).

    Raises
    ------
    UserError
        If it is none.
    """
    SCENARIOS.check(document)
    return _checked([document], document.source, sets)


def changed(scenario: Scenario, settings: Mapping[str, Any]) -> Scenario:
    """A copy of a scenario with some fields changed, by path.

    Raises
    ------
    UserError
        If the fields do not go together.
    """
    data = scenario.model_dump(mode="json")
    for path, value in settings.items():
        data = _put(data, tuple(path.split(".")), value, path)
    return load_document(Document("changed scenario", data))


def _checked(documents: list[Document], names: str, sets: Iterable[str] | Mapping[str, Any]) -> Scenario:
    """What the documents say over each other, with changes."""
    if isinstance(sets, Mapping):
        changes = [Change(tuple(path.split(".")), value, f"{path}={value}") for path, value in sets.items()]
    else:
        changes = [Change(*setting(text), f"--set {text}") for text in sets]
    return build(documents, names, changes)
