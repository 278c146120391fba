"""Reads texts: the numbers and words that a task names, the unit that a comment gives."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cmbagent_nb.skills.extracting import vocabulary as words

_UNITS = (
    "km|m|cm|mm|nm|um|s|ms|min|hr?|days?|yrs?|years?|Hz|kHz|MHz|GHz|Mpc|kpc|pc|K|mK|uK|μK|µK|eV|keV|MeV|GeV|kg|g|deg|"
    "arcmin|arcsec|mas|rad|sr|%|mag|dex|mJy|Jy|hPa|kPa|Pa|mbar|bar|atm|erg|J|W|V|A|T|G|nT|mT|Gauss|N|mol|dB|"
    "Gyr|Myr|kyr|AU|ly|M_?sun|L_?sun|R_?sun|Z_?sun|M_?earth|R_?earth|M_?jup|TeV|meV|neV|GV|Gpc|ppm|ppb|fb|pb|barn|"
    "°C?|degC|degF|amu"
)
_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w]|\.\d)")
_PERCENT = re.compile(r"\s?(%|per ?cent\b)")
_NAMED = re.compile(r"([A-Za-z][A-Za-z0-9_]*)\s*(?:=|:|of|is|to|at|<=?|>=?|≤|≥|~|≈)?\s*$")
_COUNTED = re.compile(r"[\s-]{1,2}([A-Za-z]{3,})")
_FILLER = words.listed(
    """
    a an the of to is at in on with and or by for from up than about over under above below least most between first
    last use using take fit plot make then each every until equal equals step
    """
)


@dataclass(frozen=True)
class Task:
    """The task's text, asked for the numbers and words that it names."""

    text: str = ""

    def names_value(self, value: Any) -> bool:
        """Tell whether the task names this number or word."""
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            return False
        if isinstance(value, str):
            return len(value) > 2 and re.search(rf"(?<!\w){re.escape(value)}(?!\w)", self.text) is not None
        return any(number == value for number, _, _ in self.numbers)

    @cached_property
    def numbers(self) -> list[tuple[float, int, int]]:
        """The numbers of the text with their places; of ``25 %`` also the share that it is.

        >>> [number for number, _, _ in Task("10,000 points, 25 % of them").numbers]
        [10000.0, 25.0, 0.25]
        """
        found = []
        for match in _NUMBER.finditer(self.text):
            value = float(match.group().replace(",", ""))
            found.append((value, match.start(), match.end()))
            if _PERCENT.match(self.text, match.end()):
                found.append((round(value / 100, 12), match.start(), match.end()))
        return found

    def names_values(self, values: Any) -> bool:
        """Tell whether the task names every number of a list."""
        numbers = [item for item in values if not isinstance(item, str)]
        return bool(numbers) and all(
            self.names_values(item) if isinstance(item, (list, tuple)) else self.names_value(item) for item in numbers
        )

    def names_word(self, name: str) -> bool:
        """Tell whether the task uses this name, or its words one after the other."""
        spelled = r"[\s_-]*".join(map(re.escape, words.words(name)))
        return bool(spelled) and re.search(rf"(?<![A-Za-z]){spelled}(?![A-Za-z])", self.text, re.IGNORECASE) is not None

    def names_quantity(self, name: str) -> bool:
        """Tell whether the task names a quantity; a single letter must come with a value or stand in a formula.

        >>> Task("softening eps = 0.05").names_quantity("eps"), Task("c is the concentration").names_quantity("e")
        (True, False)
        """
        if len(name) > 1:
            return self.names_word(name)
        pattern = rf"(?<![\w]){re.escape(name)}\s*(=|≈|~|≃|:=|between\b|from\b|of\s+\d|in\s+[\[(])"
        return re.search(pattern, self.text) is not None

    def speaks_of(self, name: str, value: Any) -> bool:
        """Tell whether the task asks for this value: a small whole number must come with its name."""
        if (
            isinstance(value, (int, float))
            and not isinstance(value, bool)
            and abs(value) <= 3
            and float(value).is_integer()
        ):
            return self.names_value(value) and self.names_word(name)
        return self.names_value(value)

    def word_for(self, value: float) -> str:
        """Return the word by which the task introduces a number, else the one that it counts, or nothing."""
        after = ""
        for number, start, end in self.numbers:
            if number == value:
                word = _NAMED.search(self.text[:start])
                if word and word.group(1).lower() not in _FILLER:
                    return word.group(1)
                counted = _COUNTED.match(self.text[end:])
                if counted and counted.group(1).lower() not in _FILLER and not after:
                    after = counted.group(1).lower()
        return after

    def counts(self, value: float, thing: str) -> bool:
        """Tell whether the task speaks of so many of a thing.

        >>> Task("Cut at 3 sigma.").counts(3, "sigma"), Task("Cut at 3 sigma.").counts(3, "mean")
        (True, False)
        """
        words_ = {word for word in words.words(thing) if len(word) > 2}
        return any(
            number == value
            and (counted := _COUNTED.match(self.text[end:])) is not None
            and counted.group(1).lower() in words_
            for number, _, end in self.numbers
        )


def unit_in(text: str) -> str:
    """Return the unit that a comment gives in brackets, or that it is.

    >>> unit_in("Hubble constant [km/s/Mpc]"), unit_in("km/s/Mpc"), unit_in("highest multipole")
    ('km/s/Mpc', 'km/s/Mpc', '')
    """
    bracket = re.search(r"[\[(]\s*([^\])]{1,24})\s*[\])]", text)
    shape = r"[A-Za-zµμ°%\"'^*/\d._+⊙²³⁻¹\s-]{1,24}"
    known = rf"(?:^|[\s/*^])({_UNITS})(?:$|[\s/*^\d²³⁻¹⊙-])"
    for part in [bracket.group(1)] if bracket else [text] if len(text) <= 12 else []:
        if re.fullmatch(shape, part) and re.search(known, part):
            return part.strip()
    return ""


def gives_unit(comment: str) -> bool:
    """Tell whether a comment gives a unit: in brackets, at its end, or by saying that there is none.

    >>> [gives_unit(text) for text in ("halo mass [Msun]", "splitting, eV^2", "size in kpc", "[dimensionless]", "a")]
    [True, True, True, True, False]
    """
    if unit_in(comment) or re.search(r"[\[(]\s*(dimensionless|unitless|no unit|-|1)\s*[\])]", comment):
        return True
    last = re.search(r"(?:,|;|\bin)\s+([^,;\s][^,;]{0,23})$", comment.strip())
    return last is not None and bool(unit_in(f"[{last.group(1)}]"))
