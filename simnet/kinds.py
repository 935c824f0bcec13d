"""Kinds of documents: scenarios, designs, parameter sets, campaigns. Some of each come with simnet and have names; those of the user are files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from simnet.documents import Document, read
from simnet.errors import NotFoundError, UserError, nearest

SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Kind:
    """One kind of document, and where those are that come with simnet.

    Attributes
    ----------
    what
        What messages call one.
    keys
        Some of the keys that one has, for messages.
    package, folder
        Where they are; their names are paths from there.
    pattern, suffix
        Which files there are of this kind, unless their names end in `but`.
    """

    what: str
    keys: str
    package: str
    folder: str = "."
    pattern: str = "*/*"
    suffix: str = ".yaml"
    but: str | None = None

    def names(self) -> list[str]:
        """Names of those that come with simnet."""
        return sorted(self._files())

    def _files(self) -> dict[str, Path]:
        root = Path(str(resources.files(self.package)), self.folder)
        return {
            file.relative_to(root).as_posix().removesuffix(self.suffix): file
            for file in root.glob(self.pattern + self.suffix)
            if self.but is None or not file.name.endswith(self.but)
        }

    def open(self, name_or_path: str) -> Document:
        """Read one: a file, or one that comes with simnet.

        Raises
        ------
        NotFoundError
            If there is none of that name.
        UserError
            If it is not YAML, or not a mapping.
        """
        if name_or_path.endswith(SUFFIXES):
            document = read(Path(name_or_path))
        else:
            files = self._files()
            if name_or_path not in files:
                names = sorted(files)
                raise NotFoundError(
                    f"no {self.what} {name_or_path!r}: neither a .yaml file nor one of {', '.join(names)}{nearest(name_or_path, names)}"
                )
            document = read(files[name_or_path], f"{self.what} {name_or_path}")
        self.check(document)
        return document

    def check(self, document: Document) -> None:
        """Refuse what is not a mapping.

        Raises
        ------
        UserError
            With keys that were expected.
        """
        if not isinstance(document.data, Mapping):
            raise UserError(f"{document.source}: not a {self.what}: expected keys such as {self.keys}")

    def name_of(self, name_or_path: str) -> str:
        """What a document is called that does not say."""
        return Path(name_or_path).name.removesuffix(self.suffix).removesuffix(".yaml")
