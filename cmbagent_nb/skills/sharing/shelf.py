"""What a workspace can do with skills from elsewhere: a base of :class:`~cmbagent_nb.workspace.Workspace`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pandas as pd

    from cmbagent_nb.settings import Settings
    from cmbagent_nb.skills.library import Skill
    from cmbagent_nb.store.database import Database
    from cmbagent_nb.store.writer import Writer


class Place(Protocol):
    """Where skills are kept: a workspace, as far as it is needed here."""

    home: Path

    @property
    def db(self) -> Database: ...

    @property
    def writer(self) -> Writer: ...

    @property
    def settings(self) -> Settings: ...


class Shelf:
    """The methods of a workspace about skills that were made elsewhere."""

    def import_skill(
        self: Place, source: str | Path | Mapping[str, Any], *, name: str | None = None, version_of: str | None = None
    ) -> Skill:
        """Take a skill from an exported folder, JSON file or zip archive; nothing of it is run.

        ``source`` is its place, or what the JSON file says as a dictionary.

        It is untrusted: look at ``skill.code()``, then ``skill.trust()``. The same files twice are the same skill; a
        name that a skill of another origin has is refused, unless it is ``version_of`` that one.

        Raises
        ------
        SkillRefused
            A path outside of its folder, a link, a file that is not the manifest's, a newer format, too large: told
            before anything is written.
        """
        from cmbagent_nb.skills.sharing.importer import import_package, read

        taken = read(source)
        return import_package(
            self.db,
            self.writer,
            self.home,
            taken,
            name=name,
            version_of=version_of,
            came_from="" if isinstance(source, Mapping) else str(source),
        )[0]

    def add_skill_source(
        self: Place, name: str, location: str | Path, kind: str = "", *, trusted: bool = False
    ) -> None:
        """Add a team's library: a folder, or a git repository, that holds exported skills.

        :meth:`sync_skills` takes what is in it.

        Parameters
        ----------
        location
            A folder; or a repository: its folder, or a URL with https, ssh or file.
        kind
            ``folder`` or ``git``; found out when it is not given.
        trusted
            Whether its skills may run without a look at each: whoever can write there can run code as you.
        """
        from cmbagent_nb.skills.sharing.sources import add

        add(self.db, self.writer, name, location, kind, trusted=trusted)

    def remove_skill_source(self: Place, name: str) -> None:
        """Forget a source; the skills that came from it stay as they are."""
        from cmbagent_nb.skills.sharing.sources import remove

        remove(self.db, self.writer, self.home, name)

    def skill_sources(self: Place) -> pd.DataFrame:
        """Return the sources of skills: name, kind, location, whether it is trusted, when it was last looked at."""
        import pandas as pd

        from cmbagent_nb.skills.sharing.sources import sources

        columns = ["name", "kind", "location", "trusted", "created_at", "synced_at"]
        return pd.DataFrame(sources(self.db), columns=columns)

    def sync_skills(self: Place, name: str | None = None) -> pd.DataFrame:
        """Look at the sources (or at one) and take what is new: one row for each skill there, with what became of it.

        ``change`` is ``new``, ``new version``, ``same``, ``gone`` (it stays in the library, marked) or ``refused``
        (``detail`` says why).
        """
        import pandas as pd

        from cmbagent_nb.skills.sharing.sources import sync

        columns = ["source", "skill", "version", "change", "trusted", "detail"]
        rows: list[dict[str, Any]] = [item.as_dict() for item in sync(self.db, self.writer, self.home, name)]
        return pd.DataFrame(rows, columns=columns)

    def open_library(self: Place) -> None:
        """Do what the first look at the library does: put the starter skills into it, unless the settings say no."""
        if self.settings.starter_skills and not self.db.read_only:
            from cmbagent_nb.skills.starter.install import install_quietly

            install_quietly(self.db, self.writer, self.home)

    def install_starter_skills(self: Place) -> list[str]:
        """Put the skills that come with the package into the library; returns the names of the new ones.

        It is done by itself at the first look at the library; the setting ``starter_skills`` turns that off.
        """
        from cmbagent_nb.skills.starter.install import install

        return install(self.db, self.writer, self.home)
