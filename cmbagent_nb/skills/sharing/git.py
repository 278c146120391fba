"""Fetching a git repository with the git command: no shell, no hooks, no questions, and few protocols.

| danger | what is done |
|---|---|
| a location that is an option or a command | ``--`` before it; ``ext::`` and its like are refused |
| code in the repository that runs on checkout | no hooks, no submodules, no filters of the user's (LFS), no links |
| a question that nobody answers | no terminal and no password helper window; git fails and says why |
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from cmbagent_nb.errors import SkillError, UsageError
from cmbagent_nb.redaction import scrub
from cmbagent_nb.settings import user_path

TIMEOUT_S = 300
_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<rest>.*)", re.IGNORECASE)
_SCP = re.compile(r"[A-Za-z0-9_.-]+@[A-Za-z0-9.-]+:[^:].*")
_SCHEMES = ("https", "ssh", "file")
#: Given with every command: what the user's own configuration could add is turned off.
_SAFE = (
    "core.hooksPath=/dev/null",
    "core.symlinks=false",
    "core.fsmonitor=false",
    "submodule.recurse=false",
    "protocol.allow=never",
    "protocol.file.allow=always",
    "protocol.https.allow=always",
    "protocol.ssh.allow=always",
    "filter.lfs.smudge=",
    "filter.lfs.required=false",
    "credential.interactive=false",
)


def check_location(location: str) -> str:
    """Return a repository's location, or refuse what is none or is not safe.

    >>> check_location("https://example.org/team/skills.git")
    'https://example.org/team/skills.git'
    """
    url = _URL.fullmatch(location)
    why = ""
    if not location or location.startswith("-") or re.search(r"[\x00-\x1f\x7f]", location):
        why = "is no location of a repository"
    elif "::" in location:
        why = "names a helper program, which would be run"
    elif url is not None and url["scheme"].lower() not in _SCHEMES:
        why = f"uses {url['scheme']}, which is not allowed"
    elif scrub(location) != location or (url is not None and re.match(r"([^/@]*:[^/@]*|[^/@:]{16,})@", url["rest"])):
        why = "holds a password or token, which would be stored"
    elif url is None and not _SCP.fullmatch(location) and not user_path(location).is_dir():
        why = "is neither a folder nor a URL"
    if why:
        raise UsageError(
            f"{location!r} {why}",
            "Give a folder, or a URL with https, ssh or file; git's own credential helper keeps passwords.",
            location=location,
        )
    if url is None and not _SCP.fullmatch(location):
        return str(user_path(location))
    return location


def fetch(location: str, folder: Path) -> str:
    """Bring a folder to the newest state of a repository's default branch; returns the commit.

    Raises
    ------
    SkillError
        git is not installed, or says that it cannot.
    """
    location = check_location(location)
    if not (folder / ".git").is_dir():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _git(folder, "init", "--quiet", "--template=")
    _git(folder, "fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--", location, "HEAD")
    _git(folder, "checkout", "--quiet", "--force", "--detach", "FETCH_HEAD")
    _git(folder, "clean", "--quiet", "-ffdx")
    return _git(folder, "rev-parse", "HEAD").strip()


def _git(folder: Path, *words: str) -> str:
    git = shutil.which("git")
    if git is None:
        raise SkillError("git is not installed", "Install it, or use a folder as the source.")
    options = [word for item in _SAFE for word in ("-c", item)]
    keep = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment = {
        **keep,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": ":".join(_SCHEMES),
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
        "LC_ALL": "C",
    }
    try:
        done = subprocess.run(
            [git, *options, *words],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SkillError(f"git did not end within {TIMEOUT_S} s", "Try again, or use a folder as the source.") from None
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        said = next((line for line in lines if line.startswith(("fatal:", "error:"))), "".join(lines[-1:]))
        raise SkillError(
            f"git could not {words[0]} the repository: {said or f'status {done.returncode}'}",
            "Check its location and that you may read it.",
            command=words[0],
        )
    return done.stdout
