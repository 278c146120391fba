"""From words to a verb and its options. Nothing here ends the process: what is wrong is raised."""

from __future__ import annotations

import argparse
import difflib
import re
import shlex
from collections.abc import Sequence
from typing import Any, NoReturn

from cmbagent_nb._version import __version__
from cmbagent_nb.errors import UsageError
from cmbagent_nb.verbs.declare import ALIASES, GROUPS, VERBS, Verb

_ANYWHERE = ("--debug", "--json")


class HelpAskedError(Exception):
    """``--help`` was found; the argument is the text."""


class _Help(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        raise HelpAskedError(parser.format_help())


class _VerbParser(argparse.ArgumentParser):
    """The parser of one verb."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(_readable(message), f"{self._nearest(message)}See {self.prog} --help.")

    def _nearest(self, message: str) -> str:
        if not message.startswith("unrecognized"):
            return ""
        unknown = next((word for word in message.split() if word.startswith("--")), "")
        close = difflib.get_close_matches(unknown.partition("=")[0], list(self._option_string_actions), 1)
        return f"Did you mean {close[0]}? " if unknown and close else ""


class Parser(argparse.ArgumentParser):
    """The parser of all verbs; only the verb that is called for gets a parser of its own made."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog=prog, add_help=False)
        self.front = "magic" if prog.startswith("%") else "cli"

    def parse_args(self, args: Sequence[str] | str | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Read words, or a line of them; the namespace has ``verb``, or ``help`` when that was asked for.

        Raises
        ------
        UsageError
            There is no such verb, or it cannot be called like this.
        """
        words = self.words(args)
        space = argparse.Namespace() if namespace is None else namespace
        space.front, space.verb, space.help, space.json, space.debug = self.front, None, "", False, False
        leading = []
        while words and words[0].startswith("-"):
            word = words.pop(0)
            if word in ("-h", "--help"):
                words = ["help", *words]
                break
            if word == "--version":
                space.help = f"cmbagent_nb {__version__}"
                return space
            if word not in _ANYWHERE:
                raise UsageError(f"{word} stands before the verb", f"Write {self.prog} VERB {word}.")
            leading.append(word)
        if words[:1] == ["help"]:
            words = [*words[1:], "--help"] if words[1:] else []
        if not words:
            space.help, space.debug = self.format_help(), "--debug" in leading
            return space
        found, rest = self.find(words)
        try:
            self.verb_parser(found).parse_args([*leading, *rest], space)
        except HelpAskedError as asked:
            space.help = str(asked)
            return space
        space.verb = found
        return space

    def words(self, args: Sequence[str] | str | None) -> list[str]:
        """Split a line into words, with quotes as in a shell."""
        if not isinstance(args, str):
            return list(args or ())
        try:
            return shlex.split(args)
        except ValueError as error:
            raise UsageError(f"the line cannot be read: {str(error).lower()}", "Close the quotation mark.") from None

    def find(self, words: list[str]) -> tuple[Verb, list[str]]:
        """Return the verb that words begin with, and the words after it."""
        pair = " ".join(words[:2])
        known = 2 if pair in ALIASES else 1
        words = [*ALIASES.get(" ".join(words[:known]), (words[0],)), *words[known:]]
        pair = " ".join(words[:2])
        if pair in VERBS:
            return VERBS[pair], words[2:]
        if words[0] in VERBS:
            return VERBS[words[0]], words[1:]
        inner = [name.split()[1] for name in VERBS if name.startswith(words[0] + " ")]
        if inner:
            if len(words) == 1 or words[1] in ("-h", "--help"):
                raise UsageError(f"{words[0]!r} needs one more word", f"It is one of {', '.join(inner)}.")
            raise self._unknown(f"{words[0]} {words[1]}", words[1], inner)
        raise self._unknown(words[0], words[0], list(dict.fromkeys(name.split()[0] for name in VERBS)))

    def _unknown(self, said: str, word: str, known: list[str]) -> UsageError:
        close = difflib.get_close_matches(word, known, 1)
        meant = f"Did you mean {close[0]}? " if close else ""
        return UsageError(f"there is no verb {said!r}", f"{meant}The verbs are {', '.join(known)}.", verb=said)

    def verb_parser(self, verb: Verb) -> argparse.ArgumentParser:
        """Make the parser of one verb."""
        parser = _VerbParser(
            prog=f"{self.prog} {verb.name}",
            description=verb.help,
            epilog=verb.more or None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            add_help=False,
            allow_abbrev=False,
        )
        for option in verb.options:
            if option.front in ("", self.front):
                parser.add_argument(*option.flags, **option.keywords)
        parser.add_argument("--json", action="store_true", default=False, help="give the outcome as JSON")
        parser.add_argument("--debug", action="store_true", default=False, help="show the traceback of an error")
        parser.add_argument("-h", "--help", nargs=0, action=_Help, help="show this help")
        return parser

    def format_help(self) -> str:
        """Return the list of verbs."""
        lines = [f"usage: {self.prog} VERB …", ""]
        if self.front == "magic":
            lines += ["%%cmbagent [one_shot|plan|deep] [options], with the task as the cell's body, starts a run.", ""]
        width = max(map(len, VERBS)) + 2
        for group in GROUPS:
            lines.append(f"{group}:")
            lines += [f"  {name:{width}}{verb.help}" for name, verb in VERBS.items() if verb.group == group]
            lines.append("")
        lines.append(f"{self.prog} VERB --help shows a verb's options; --json gives its outcome as JSON.")
        return "\n".join(lines)


def parser(prog: str = "cmbagent") -> Parser:
    """Return the parser of all verbs for a front end; one whose name begins with ``%`` is the magic's."""
    return Parser(prog)


def _readable(message: str) -> str:
    """Turn a message of argparse into one that begins with what the user typed.

    >>> _readable("argument --limit: expected one argument")
    '--limit: expected one argument'
    """
    return re.sub(r"^argument ", "", " ".join(message.split()))
