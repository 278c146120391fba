"""The manifest: the sha256 and the size of every file of an exported skill, so that a change is noticed.

It shows that a copy is whole and as it was exported. It is no signature: whoever changes a file can make a new
manifest, which is why an imported skill has to be trusted by somebody who has looked at its code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from cmbagent_nb.skills.sharing.package import ASSETS, EXPORT_AGAIN, MANIFEST, NOTEBOOK, Package, newer, refused

FORMAT = 1


def seal(package: Package) -> Package:
    """Add the manifest to a package."""
    files = {
        path: {"sha256": _sha256(content), "size": len(content)}
        for path, content in sorted(package.files.items())
        if path != MANIFEST
    }
    text = json.dumps({"format": FORMAT, "files": files}, indent=1, ensure_ascii=False) + "\n"
    package.files[MANIFEST] = text.encode()
    return package


def check(package: Package) -> None:
    """Refuse a package whose files are not those of its manifest, one by one.

    Raises
    ------
    SkillRefused
        A file was changed, is missing, or is there without being listed.
    """
    try:
        manifest = json.loads(package.text(MANIFEST))
        listed = manifest["files"]
        sums = {str(path): str(item["sha256"]) for path, item in listed.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise refused(f"its {MANIFEST} cannot be read", EXPORT_AGAIN, path=MANIFEST) from None
    newer(manifest.get("format"), f"its {MANIFEST}", FORMAT)
    found = {path: _sha256(content) for path, content in package.files.items() if path != MANIFEST}
    for path in sorted(sums.keys() | found.keys()):
        if path not in found:
            raise refused(f"{path} is in its manifest but not there", EXPORT_AGAIN, path=path)
        if path not in sums:
            raise refused(
                f"{path} is not in its manifest", "Remove that file, or have the skill exported again.", path=path
            )
        if sums[path] != found[path]:
            raise refused(
                f"{path} was changed after it was exported: its sha256 is not the manifest's", EXPORT_AGAIN, path=path
            )


def digest(files: Mapping[str, bytes]) -> str:
    """Return what names the content that runs: the notebook and its assets, whatever is written about them.

    >>> digest({"notebook.ipynb": b"{}", "SKILL.md": b"x"}) == digest({"notebook.ipynb": b"{}"})
    True
    """
    lines = [
        f"{_sha256(content)}  {path}\n"
        for path, content in sorted(files.items())
        if path == NOTEBOOK or path.startswith(ASSETS)
    ]
    return _sha256("".join(lines).encode())


def code_digest(files: Mapping[str, bytes]) -> str:
    """Return what names the code that runs and its assets: what a notebook shows besides makes no difference."""
    from cmbagent_nb.skills.notebook import notebook_hash

    own = {**files, NOTEBOOK: notebook_hash(files[NOTEBOOK].decode("utf-8", "replace")).encode()}
    return digest(own)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
