"""How a skill is shared: a base of :class:`~cmbagent_nb.skills.library.Skill`, so that the library stays small."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmbagent_nb.skills.library import Skill
    from cmbagent_nb.skills.sharing.trust import SkillCode


class Shareable:
    """The methods of a skill by which it goes to others, comes from them, or goes away."""

    def code(self: Skill) -> SkillCode:  # type: ignore[misc] # a base of Skill only
        """Return all code that the skill runs, to be read before it is trusted; nothing is run."""
        from cmbagent_nb.skills.sharing.trust import code

        return code(self)

    def trust(self: Skill) -> Skill:  # type: ignore[misc]
        """Let a skill from elsewhere run from now on.

        Who said so and when is recorded, with the hash of the notebook and its assets: when a file changes, the
        skill stops running. It becomes active if it was verified where it was made.
        """
        from cmbagent_nb.skills.sharing.trust import trust

        return trust(self)

    def export(  # type: ignore[misc]
        self: Skill, path: str | Path, format: str = "folder", *, licence: str = "", overwrite: bool = False
    ) -> Path:
        """Write the skill as files that anyone can import, and return their place.

        Parameters
        ----------
        path
            Where to: the folder is made in it, under the skill's name in small letters and hyphens.
        format
            ``folder`` (in the open Agent Skills format), ``json`` (one file that holds everything) or ``zip``.
        licence
            What others may do with it, such as ``Apache-2.0``; it is named in ``SKILL.md``.
        overwrite
            Replace an earlier export.

        Raises
        ------
        SkillError
            The place is taken or cannot be written, or the notebook was changed.
        """
        from cmbagent_nb.skills.sharing.export import export

        return export(self, path, format=format, licence=licence, overwrite=overwrite)

    def publish(self: Skill, visibility: str = "public", *, to: str = "") -> Skill:  # type: ignore[misc]
        """Say whether the skill is for others: ``public`` or ``private``; with ``to``, put it into a team's folder.

        Parameters
        ----------
        to
            The name of a source of the kind ``folder``: the skill is exported into it and becomes public.
        """
        from cmbagent_nb.skills.sharing.sources import publish

        return publish(self, visibility, to=to)

    def delete(self: Skill, *, results: bool = False) -> str:  # type: ignore[misc]
        """Delete this version for good: its rows and its folder; returns what was done, in words.

        The record of its executions goes with it. The folders that they worked in stay, since they hold results,
        unless ``results`` is set.

        Raises
        ------
        StateError
            The skill is running.
        """
        from cmbagent_nb.skills.sharing.remove import delete

        return delete(self, results=results)
