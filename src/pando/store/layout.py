"""Where things are under DIR (docs/architecture.md, "A database's files"): paths, and the list of databases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pando.errors import InvalidDatabaseName, UnknownDatabase
from pando.types import DEFAULT_DATABASE, parse_database_name


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of a node."""

    directory: Path

    @property
    def own(self) -> Path:
        """Everything of ours besides the databases."""
        return self.directory / ".pando"

    @property
    def databases(self) -> Path:
        """Folder of all databases but the default one."""
        return self.directory / "databases"

    @property
    def storage(self) -> Path:
        """Files of records."""
        return self.directory / "storage"

    @property
    def temporary(self) -> Path:
        """Snapshots in flight; emptied at start."""
        return self.own / "tmp"

    @property
    def evidence(self) -> Path:
        """What was kept of divergences."""
        return self.own / "evidence"

    @property
    def positions(self) -> Path:
        """The shared table of positions."""
        return self.own / "positions"

    @property
    def counters(self) -> Path:
        """The shared table of what is limited by time."""
        return self.own / "counters"

    @property
    def own_writes(self) -> Path:
        """What the web processes tell each other about writes that the node does not show yet."""
        return self.own / "own_writes"

    @property
    def node_state(self) -> Path:
        """What the node remembers of itself."""
        return self.own / "node.json"

    def database(self, name: str) -> Path:
        """The SQLite file of a database."""
        return self.directory / "data.db" if name == DEFAULT_DATABASE else self.databases / f"{name}.db"

    def log(self, name: str) -> Path:
        """Folder of a database's log segments."""
        return self.own / "log" / name

    def make_folders(self) -> None:
        """Make the folders of a new node."""
        for folder in (self.own, self.databases, self.temporary, self.own / "log"):
            folder.mkdir(parents=True, exist_ok=True)
        self.own.chmod(0o700)

    def names(self) -> list[str]:
        """Names of all databases, the default one first; it exists from the start."""
        found = []
        for path in sorted(self.databases.glob("*.db")):
            try:
                found.append(parse_database_name(path.stem))
            except InvalidDatabaseName:
                continue  # somebody's own file; not ours to touch
        return [DEFAULT_DATABASE, *(name for name in found if name != DEFAULT_DATABASE)]

    def require(self, name: str) -> Path:
        """Give the file of an existing database; raises UnknownDatabase."""
        path = self.database(name)
        if name != DEFAULT_DATABASE and not path.exists():
            raise UnknownDatabase(f"there is no database {name!r}; create it with `pando databases create {name}`")
        return path
