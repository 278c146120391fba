"""Masks secrets in everything that is written or shown.

One function, :func:`scrub`, is the only door: the writer, the journal, error messages, logs, notebooks, previews,
REST replies and the command line all pass their text through it.

======================  ======================================================================
masked by value         environment variables with a secret-looking name, and passwords in URLs
                        among the environment's values and the settings; also as escaped in
                        JSON, HTML, URLs and base64
masked by shape         keys of known vendors, credentials in URLs, authorization headers
                        ``password="..."`` and the like, private keys
short values            passwords from 4, other secrets from 8 characters; below 16 characters
                        only where they stand as a word of their own
never masked            paths; the writer leaves ids, hashes and path columns alone
environment             read again when it may have changed: a key that is set in a later cell is
                        known at once after :meth:`Redactor.refresh`, else within half a second
======================  ======================================================================

>>> redactor = Redactor({"OPENAI_API_KEY": "sk-0123456789abcdefghij", "HOME": "/home/ada"})
>>> redactor.scrub("the key is sk-0123456789abcdefghij in /home/ada")
'the key is [redacted:OPENAI_API_KEY] in /home/ada'
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

#: Values of this length and more are masked wherever they stand; shorter ones only as a word of their own.
LONG = 16
#: The shortest values that are masked: shorter ones would hit ordinary words and numbers.
SHORTEST_PASSWORD = 4
SHORTEST_KEY = 8
#: What every masked secret begins with.
MARK = "[redacted:"
#: Seconds for which the environment is taken as unchanged.
FRESH = 0.5

_PASSWORD_NAME = re.compile(r"PASSW|PASSPHRASE|SECRET|CREDENTIAL|(^|_)(PWD|PASS)($|_)")
_SECRET_NAME = re.compile(_PASSWORD_NAME.pattern + r"|KEY|TOKEN|(^|_)(PAT|AUTH|BEARER|COOKIE|DSN)($|_)")
_NOT_SECRET = re.compile(r"^(OLD)?PWD$|KEYBOARD|_(FILE|PATH|DIR|URL|HOST|SOCK|NAME|ID|AGENT)$|TOKENIZERS_PARALLELISM")

#: What no masked value begins with: a text is masked once, and a placeholder of code holds no secret.
_NEW = (
    r"(?!\[redacted:|\*{3,}(?![^@&\s])"
    r"|(?:\$?\{[^{}\s]{0,80}\}|\$[A-Za-z_]\w{0,40}|%s|%\(\w{1,40}\)s)(?![^@&\s;#\"'\\,]))"
)

#: Shapes of keys and credentials: a name, texts one of which each match holds, the pattern. A group ``keep`` is what
#: stands before the secret and stays. The first tier is told from other text by a rare character (``_RARE``).
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
    (
        "PASSWORD",
        ("://",),
        re.compile(r"(?<=://)(?P<keep>[^\s/:@\"'<>]{0,256}:)" + _NEW + r"[^\s/\"'<>]{1,512}(?=@)"),
    ),
    # A user name alone stays (ssh://git@host): what is masked is long and holds a digit.
    ("TOKEN", ("://",), re.compile(r"(?<=://)(?=[^\s/:@]*\d)[A-Za-z0-9_.~%+-]{12,512}(?=@)")),
    (
        "PRIVATE_KEY",
        ("PRIVATE KEY-----", "PRIVATE KEY BLOCK-----"),
        # Also a key that was cut, or whose lines are strings of code: after its beginning, all that looks like base64.
        re.compile(
            r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----"
            r"(?:[^\"]{0,16000}?-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----"
            r"|(?:(?:[\s\"'>|#(),\\]|(?<=\\)[nr])*+[A-Za-z0-9+/]{16,}+={0,2})+)"
        ),
    ),
)

#: Finds any of the marks above, by the rarest of its characters: nearly all texts hold no mark, and many not even this
#: character. Looking for one character is some fifty times as fast as looking for all marks at once.
_RARE: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("-", re.compile(r"-(?:(?<=sk-)|(?<=xai-)|(?<=glpat-)|(?<=PRIVATE KEY-)----|(?<=PRIVATE KEY BLOCK-)----)")),
    ("_", re.compile(r"_(?:(?<=gh[pousr]_)|(?<=github_pat_)|(?<=hf_)|(?<=gsk_))")),
    ("A", re.compile(r"A(?:KIA|SIA|Iza)")),
    ("J", re.compile(r"J(?<=eyJ)")),
    ("x", re.compile(r"xox")),
    ("/", re.compile(r"/(?<=:/)/")),
)

#: Names of options and fields that hold a key, and those that hold a password; in front of them may stand anything.
_KEY_FIELD = re.compile(
    r"(?:(?:api|access|auth|account|secret|private|subscription)[_-]?(?:key|token)|(?:client|app|shared)[_-]?secret"
    r"|(?:refresh|id|bearer|session)[_-]token)\\{0,3}[\"']?\s*$",
    re.IGNORECASE,
)
_PASS_FIELD = re.compile(r"(?:passw(?:or)?d|passphrase|pwd)\\{0,3}[\"']?\s*$", re.IGNORECASE)
_RANDOM = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[^\[]{8,}")
_EXPRESSION = re.compile(r"[A-Za-z_][\w.]*(?=[,()\[\s]|\Z)")
_CONNECTION = re.compile(r"\b(?:host|hostaddr|port|user|dbname)=")

#: What is read around a match to tell what it is.
_NEAR = 60

#: Secrets that are known by the name beside them: in code, JSON, YAML and printed dicts, in queries of URLs, in headers
#: and in connection strings. Tested only where one of :data:`_NAMED_MARKS` stands.
_ASSIGNED = re.compile(r"(?P<keep>[:=]\s*\\{0,3}(?P<mark>[\"']))(?P<secret>[^\"'\\\s{}]{4,512})(?=\\{0,3}(?P=mark))")
#: A name that only ends with "key" may be that of a column, so that its value has to look like a key.
_QUERY = re.compile(
    r"(?P<keep>[?&;](?:(?i:[a-z0-9_.-]{0,40}(?:(?:api|access|auth|account|secret|private|subscription)[_-]?key|token|secret"
    r"|signature|passw(?:or)?d|passphrase|pwd)|sig)="
    r"|(?i:[a-z0-9_.-]{0,40}key)=(?=[^\s&;#\"'<>\\]{0,99}\d)(?=[^\s&;#\"'<>\\]{0,99}[A-Za-z])(?=[^\s&;#\"'<>\\]{8})))"
    + _NEW
    + r"[^\s&;#\"'<>\\]{4,}"
)
_HEADER = re.compile(
    r"(?P<keep>[aA](?i:uthorization)\\{0,3}[\"']?\s*[:=]\s*\\{0,3}[\"']?(?i:(?:bearer|basic|token|digest)\s+)?"
    r"|[bB](?i:earer)\s+)(?=[^\s\"',;\\]*\d)[A-Za-z0-9._~+/-]{8,}=*"
)
_CONNECTING = re.compile(r"(?P<keep>[pP](?i:assword)=)" + _NEW + r"[^\s\"',]+")
_NAMED_MARKS = (
    *(
        "assw",
        "ASSW",
        "assphrase",
        "ASSPHRASE",
        "pwd",
        "PWD",
        "ecret",
        "ECRET",
        "_key",
        "_KEY",
        "-key",
        "-Key",
        "piKey",
    ),
    *("pikey", "PIKEY", "tKey", "_token", "_TOKEN", "-token", "-Token", "Token", "oken=", "OKEN=", "ey=", "EY="),
    *("ignature=", "sig=", "uthorization", "UTHORIZATION", "earer ", "EARER "),
)


def _mask_named(text: str) -> str:
    """Mask values that stand beside the name of a secret."""

    def assigned(match: re.Match[str]) -> str:
        before = match.string[max(0, match.start() - _NEAR) : match.start()]
        name = "SECRET" if _KEY_FIELD.search(before) and _RANDOM.match(match["secret"]) else ""
        name = name or ("PASSWORD" if _PASS_FIELD.search(before) and match["secret"][:10] != "[redacted:" else "")
        return f"{match['keep']}[redacted:{name}]" if name else match[0]

    def connecting(match: re.Match[str]) -> str:
        before = match.string[max(0, match.start() - 4 * _NEAR) : match.start()].rstrip()
        if before.endswith((",", "(")) and _EXPRESSION.match(match.string, match.end("keep")):
            return match[0]  # an argument of a call, by its name
        around = match.string[max(0, match.start() - 4 * _NEAR) : match.end() + 4 * _NEAR]
        return f"{match['keep']}[redacted:PASSWORD]" if _CONNECTION.search(around) else match[0]

    text = _ASSIGNED.sub(assigned, text)
    text = _QUERY.sub(r"\g<keep>[redacted:SECRET]", text)
    text = _HEADER.sub(r"\g<keep>[redacted:AUTHORIZATION]", text)
    return _CONNECTING.sub(connecting, text)


def has_mark(text: str) -> bool:
    """Tell whether a text holds what every key of a vendor begins with: few do, and only they are looked at closely.

    >>> has_mark("a risk-free fit"), has_mark("a fit, x = -1.5, chi2_red = 1")
    (True, False)
    """
    return any(character in text and pattern.search(text) is not None for character, pattern in _RARE)


_all: weakref.WeakSet[Redactor] = weakref.WeakSet()


def _renew_locks() -> None:
    """Give all redactors new locks in a process that was forked: another thread may have held one."""
    for redactor in list(_all):
        redactor._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


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
        self._forms: tuple[tuple[str, str, re.Pattern[str] | None], ...] = ()
        self._read_at = 0.0
        _all.add(self)
        self.refresh()

    def refresh(self) -> None:
        """Read the environment now. A value that was a secret once is masked for good."""
        self._read_at = time.monotonic()
        found: dict[str, str] = {}
        for name, value in list(self._environ.items()):
            if is_secret(name, value):
                found[value] = name
            elif "://" in value:
                found |= dict.fromkeys(_passwords_in(value), name)
        self._add(found)

    def learn(self, name: str, value: str) -> None:
        """Mask the password in a URL, such as that of a database, wherever it stands by itself."""
        self._add(dict.fromkeys(_passwords_in(value), name))

    def _add(self, found: Mapping[str, str]) -> None:
        with self._lock:
            new = {value: name for value, name in found.items() if value not in self._names}
            if not new:
                return
            self._names = {**self._names, **new}
            forms = {
                form: (name, len(value) < LONG) for value, name in self._names.items() for form in _forms_of(value)
            }
            # Longest first: a secret may be a part of another.
            self._forms = tuple(
                (form, name, _word(form) if short else None)
                for form, (name, short) in sorted(forms.items(), key=lambda item: -len(item[0]))
            )

    def scrub(self, text: str) -> str:
        """Return ``text`` with every secret replaced by ``[redacted:NAME]``."""
        if time.monotonic() - self._read_at > FRESH:
            self.refresh()
        for form, name, word in self._forms:
            if form in text:
                text = (
                    text.replace(form, f"[redacted:{name}]") if word is None else word.sub(f"[redacted:{name}]", text)
                )
        if has_mark(text):
            for name, marks, pattern in _SHAPES:
                if any(mark in text for mark in marks):
                    keep = r"\g<keep>" if "keep" in pattern.groupindex else ""
                    text = pattern.sub(f"{keep}[redacted:{name}]", text)
        return _mask_named(text) if any(mark in text for mark in _NAMED_MARKS) else text


def _word(form: str) -> re.Pattern[str]:
    """Find a short secret only as a word of its own: ``planck`` not within ``planck2018``."""
    return re.compile(rf"(?<![A-Za-z0-9_]){re.escape(form)}(?![A-Za-z0-9_])")


def _passwords_in(url: str) -> list[str]:
    """Return the password of a URL as it stands there, and as it is after unquoting."""
    try:
        password = urlsplit(url).password
    except ValueError:
        return []
    found = {password, unquote(password)} if password else set()
    return [value for value in found if value and len(value) >= SHORTEST_PASSWORD and not value.isdigit()]


def _forms_of(value: str) -> set[str]:
    """Return a value as it appears in text, Python output, URLs, HTML, base64 and JSON nested three deep."""
    quoted = {quote(value), quote(value, safe=""), quote(quote(value, safe=""), safe="")}
    lower = {re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), form) for form in quoted}
    forms = newest = {value, repr(value)[1:-1], html.escape(value), html.escape(value, quote=False), *quoted, *lower}
    for _ in range(3):
        newest = {json.dumps(form, ensure_ascii=plain)[1:-1] for form in newest for plain in (True, False)} - forms
        forms = forms | newest
    # Encoders of other languages escape more than Python's: slashes, and what HTML would read.
    forms |= {form.replace("/", "\\/") for form in forms}
    forms |= {form.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e") for form in forms}
    if len(value) >= LONG:  # what is coded in a header, also after a user's name, which changes its ends only
        for before in range(3):
            coded = base64.b64encode(b"\0" * before + value.encode("utf-8", "surrogateescape")).decode()
            coded = coded.rstrip("=")[(0, 2, 3)[before] : -1]
            forms |= {coded, coded.replace("+", "-").replace("/", "_")}
    return forms


def is_secret(name: str, value: str) -> bool:
    """Tell whether an environment variable looks like one that holds a secret.

    >>> is_secret("OPENAI_API_KEY", "0123456789abcdef"), is_secret("SSH_AUTH_SOCK", "/run/user/1000/agent")
    (True, False)
    """
    name = name.upper()
    if not _SECRET_NAME.search(name) or _NOT_SECRET.search(name) or (value.isdigit() and len(value) < LONG):
        return False
    if len(value) < LONG and _PASSWORD_NAME.search(name):
        return len(value) >= SHORTEST_PASSWORD and not _is_path(value)
    if len(value) < LONG and not (re.search(r"\d", value) and re.search(r"[A-Za-z]", value)):
        return False  # the name of a column, "none", "ollama" ...
    return len(value) >= SHORTEST_KEY and not _is_path(value)


def _is_path(value: str) -> bool:
    if not value.startswith(("/", "~", "./", "../")) and not re.match(r"[A-Za-z]:[\\/]", value):
        return False
    try:
        return Path(value).expanduser().exists() or value.count("/") > 2
    except (OSError, RuntimeError, ValueError):
        return False


#: The redactor of this process.
_redactor: Redactor | None = None


def redactor() -> Redactor:
    """Return the redactor of this process, made on first use."""
    global _redactor  # noqa: PLW0603
    if _redactor is None:
        _redactor = Redactor(os.environ)
    return _redactor


def scrub(text: str) -> str:
    """Return ``text`` with every secret that this process knows replaced by ``[redacted:NAME]``."""
    return redactor().scrub(text)
