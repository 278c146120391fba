"""Redaction: no API key is ever stored or shown.

======================  ======================================================================
values that are masked  those of environment variables with a secret-looking name (16 characters
                        or more), also escaped as in JSON or in a URL; keys of known vendors by
                        their shape; passwords within URLs; private keys
never masked            paths; the writer leaves ids, hashes and path columns alone
environment             read again when it may have changed: a key that is set in a later cell is
                        known at once after :meth:`Redactor.refresh`, else within half a second
======================  ======================================================================

>>> redactor = Redactor({"OPENAI_API_KEY": "sk-0123456789abcdefghij", "HOME": "/home/ada"})
>>> redactor.scrub("the key is sk-0123456789abcdefghij in /home/ada")
'the key is [redacted:OPENAI_API_KEY] in /home/ada'
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

#: Shorter values are not masked: they would hit ordinary words.
SHORTEST = 16
#: Seconds for which the environment is taken as unchanged.
FRESH = 0.5

_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|(^|_)(PWD|PASS|AUTH|BEARER|COOKIE)($|_)")
_NOT_SECRET = re.compile(r"^(OLD)?PWD$|KEYBOARD|_(FILE|PATH|DIR|URL|HOST|SOCK|NAME|ID|AGENT)$|TOKENIZERS_PARALLELISM")

#: Shapes of vendors' keys: a name, a text that any of them holds (asked first, since it is fast), the pattern.
_SHAPES: tuple[tuple[str, tuple[str, ...], re.Pattern[str]], ...] = (
    ("API_KEY", ("sk-",), re.compile(r"(?<![A-Za-z0-9])sk-(?=[A-Za-z0-9_-]*\d)[A-Za-z0-9_-]{20,}")),
    ("AWS_KEY", ("AKIA", "ASIA"), re.compile(r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[0-9A-Z]{16}(?![0-9A-Za-z])")),
    ("GITHUB_TOKEN", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36,}")),
    ("GITHUB_TOKEN", ("github_pat_",), re.compile(r"\bgithub_pat_[A-Za-z0-9_]{22,}")),
    ("GOOGLE_KEY", ("AIza",), re.compile(r"(?<![A-Za-z0-9])AIza[0-9A-Za-z_-]{35}")),
    ("HF_TOKEN", ("hf_",), re.compile(r"\bhf_[A-Za-z0-9]{30,}")),
    ("GITLAB_TOKEN", ("glpat-",), re.compile(r"\bglpat-[A-Za-z0-9_-]{20,}")),
    ("SLACK_TOKEN", ("xox",), re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}")),
    ("GROQ_KEY", ("gsk_",), re.compile(r"\bgsk_[A-Za-z0-9]{40,}")),
    ("XAI_KEY", ("xai-",), re.compile(r"\bxai-[A-Za-z0-9]{40,}")),
    ("JWT", ("eyJ",), re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}")),
    ("PASSWORD", ("://",), re.compile(r"(?<=://)(?P<keep>[^\s/:@\"']{0,64}:)[^\s/@\"']{3,256}(?=@)")),
    (
        "PRIVATE_KEY",
        ("PRIVATE KEY-----",),
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----[^\"]*?-----END [A-Z ]*PRIVATE KEY-----"),
    ),
)

#: Finds any of the marks above, by the rarest of its characters: nearly all texts hold no mark, and many not even this
#: character. Looking for one character is some fifty times as fast as looking for all marks at once.
_RARE: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("-", re.compile(r"-(?:(?<=sk-)|(?<=xai-)|(?<=glpat-)|(?<=PRIVATE KEY-)----)")),
    ("_", re.compile(r"_(?:(?<=gh[pousr]_)|(?<=github_pat_)|(?<=hf_)|(?<=gsk_))")),
    ("A", re.compile(r"A(?:KIA|SIA|Iza)")),
    ("J", re.compile(r"J(?<=eyJ)")),
    ("x", re.compile(r"xox")),
    ("/", re.compile(r"/(?<=:/)/")),
)


def has_mark(text: str) -> bool:
    """Tell whether a text holds what every key of a vendor begins with: few do, and only they are looked at closely.

    >>> has_mark("a risk-free fit"), has_mark("a fit, x = -1.5, chi2_red = 1")
    (True, False)
    """
    return any(character in text and pattern.search(text) is not None for character, pattern in _RARE)


class Redactor:
    """Masks secrets in texts; give :meth:`scrub` to the writer.

    Parameters
    ----------
    environ
        The environment whose secrets are masked; it is read again while it changes.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._lock = threading.Lock()
        self._names: dict[str, str] = {}
        self._forms: tuple[tuple[str, str], ...] = ()
        self._read_at = 0.0
        self.refresh()

    @classmethod
    def from_environment(cls) -> Redactor:
        """Make a redactor for this process."""
        return cls(os.environ)

    def refresh(self) -> None:
        """Read the environment now. A value that was a secret once is masked for good."""
        with self._lock:
            self._read_at = time.monotonic()
            found = {
                value: name
                for name, value in list(self._environ.items())
                if len(value) >= SHORTEST and is_secret(name, value) and value not in self._names
            }
            if not found:
                return
            self._names = {**self._names, **found}
            forms = {form: name for value, name in self._names.items() for form in _forms_of(value)}
            # Longest first: a secret may be a part of another.
            self._forms = tuple(sorted(forms.items(), key=lambda item: -len(item[0])))

    def scrub(self, text: str) -> str:
        """Return ``text`` with every secret replaced by ``[redacted:NAME]``."""
        if time.monotonic() - self._read_at > FRESH:
            self.refresh()
        for form, name in self._forms:
            if form in text:
                text = text.replace(form, f"[redacted:{name}]")
        if not has_mark(text):
            return text
        for name, marks, pattern in _SHAPES:
            if any(mark in text for mark in marks):
                keep = r"\g<keep>" if "keep" in pattern.groupindex else ""
                text = pattern.sub(f"{keep}[redacted:{name}]", text)
        return text


def _forms_of(value: str) -> set[str]:
    """Return what a value looks like in texts, in Python's output, in URLs, and in JSON within JSON within JSON."""
    forms = newest = {value, repr(value)[1:-1], quote(value), quote(value, safe="")}
    for _ in range(3):
        newest = {json.dumps(form, ensure_ascii=plain)[1:-1] for form in newest for plain in (True, False)} - forms
        forms = forms | newest
    return forms


def is_secret(name: str, value: str) -> bool:
    """Tell whether an environment variable looks like one that holds a secret.

    >>> is_secret("OPENAI_API_KEY", "0123456789abcdef"), is_secret("SSH_AUTH_SOCK", "/run/user/1000/agent")
    (True, False)
    """
    name = name.upper()
    if not _SECRET_NAME.search(name) or _NOT_SECRET.search(name):
        return False
    return not _is_path(value)


def _is_path(value: str) -> bool:
    if not value.startswith(("/", "~", "./", "../")) and not re.match(r"[A-Za-z]:[\\/]", value):
        return False
    try:
        return Path(value).expanduser().exists() or value.count("/") > 2
    except (OSError, RuntimeError, ValueError):
        return False
