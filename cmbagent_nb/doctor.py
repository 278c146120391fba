"""Reports the installation: packages, model, workspace, and the limits of this platform.

Looking changes nothing: no folder, no database, no setting is made or migrated.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sqlite3
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmbagent_nb._version import __version__
from cmbagent_nb.errors import CMBAgentError

if TYPE_CHECKING:
    from cmbagent_nb.settings import Settings

#: Versions of Python that the tests run on.
PYTHONS = ((3, 11), (3, 13))
#: Free space in the workspace under which a run may not end well, in bytes.
LEAST_SPACE = 500e6
#: Runs whose records are reported one by one.
MOST_RUNS = 8
REPAIR = "Run `cmbagent doctor --repair`: it moves what is damaged aside, and says what was rebuilt and what is lost."
DISTRIBUTION = "cmbagent-nb"
#: What each optional part is for.
EXTRAS = {
    "cosmo": "spectra with CAMB, for the demonstration",
    "openai": "OpenAI, and OpenAI-compatible servers",
    "anthropic": "Anthropic's models",
    "gemini": "Google's models",
    "ollama": "models on this machine by Ollama",
    "postgres": "PostgreSQL in place of SQLite",
    "embeddings": "matching of skills by meaning",
}
GLYPHS = {"ok": "✔", "note": "·", "problem": "✕"}
_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: ``ok``, ``note`` (something is not there) or ``problem``."""

    name: str
    status: str
    detail: str
    next_step: str = ""


@dataclass
class Report:
    """The findings of a check of the installation."""

    home: Path
    version: str
    checks: list[Check] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def healthy(self) -> bool:
        """Whether nothing that was found would keep a run from working."""
        return all(check.status != "problem" for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON shows it."""
        return {
            "version": self.version,
            "healthy": self.healthy,
            "workspace": str(self.home),
            **self.facts,
            "checks": [asdict(check) for check in self.checks],
        }

    def __str__(self) -> str:
        width = max(len(check.name) for check in self.checks) + 2
        lines = [f"cmbagent_nb {self.version}"]
        for check in self.checks:
            lines.append(f"{GLYPHS[check.status]} {check.name:{width}}{check.detail}")
            if check.next_step:
                lines.append(f"  {'':{width}}{check.next_step}")
        problems = sum(check.status == "problem" for check in self.checks)
        lines.append("")
        lines.append(f"{problems} problem{'s' if problems != 1 else ''}." if problems else "All is well.")
        return "\n".join(lines)


def examine(home: Path, environ: Mapping[str, str] | None = None) -> Report:
    """Look at the installation and at the workspace in ``home``."""
    from cmbagent_nb.settings import Settings, load_settings

    environ = os.environ if environ is None else environ
    report = Report(home, __version__)
    settings: Settings | None = None

    def settings_check() -> Check:
        nonlocal settings
        settings = load_settings(home, environ)
        changed = [f"{name} from {source}" for name, source in settings.sources.items() if source != "default"]
        return Check("settings", "ok", ", ".join(changed) or "all at their defaults")

    looks: list[tuple[str, Callable[[], Check]]] = [
        ("python", _python),
        ("platform", lambda: _platform(report)),
        ("packages", lambda: _packages(report)),
        ("workspace", lambda: _workspace(home)),
        ("settings", settings_check),
        ("database", lambda: _database(home, (settings or Settings()).database_url)),
        ("records", lambda: _records(home, (settings or Settings()).database_url)),
        ("processes", lambda: _processes(home)),
        ("model", lambda: _model(report, settings or Settings(), environ)),
        ("keys", lambda: _keys(report, settings or Settings(), environ)),
        ("playbooks", lambda: _playbooks(report)),
        ("starter skills", _starter_skills),
        ("agents", lambda: _agents(home, (settings or Settings()).agents_dir)),
        ("panel", lambda: _panel(report)),
    ]
    for name, look in looks:
        try:
            report.checks.append(look())
        except CMBAgentError as error:
            report.checks.append(Check(name, "problem", error.what, error.next_step))
        except Exception as error:  # one part that cannot be looked at must not hide the others
            what = f"cannot be looked at ({type(error).__name__}: {error})"
            report.checks.append(
                Check(name, "problem", what, "Reinstall with: pip install --force-reinstall cmbagent-nb.")
            )
    return report


# ---- the installation


def _python() -> Check:
    version = f"{platform.python_version()} in {sys.prefix}"
    least, most = PYTHONS
    if not least <= sys.version_info[:2] <= most:
        known = f"{least[0]}.{least[1]} to {most[0]}.{most[1]}"
        return Check("python", "problem", version, f"cmbagent_nb is tested on Python {known}: use one of these.")
    return Check("python", "ok", version)


def limits(system: str = "") -> list[str]:
    """Say what this platform cannot do.

    >>> limits("linux")
    []
    """
    system = system or sys.platform
    if system.startswith("linux"):
        return []
    if system == "darwin":
        return ["a process that detaches itself from the code of a step may outlive a cancel"]
    if system == "win32":
        return [
            "Windows is not tested",
            "processes that the code of a step starts may outlive a cancel",
            "code is stopped without notice, since there are no signals",
        ]
    return [f"{system} is not tested"]


def _platform(report: Report) -> Check:
    found = limits()
    report.facts["platform"] = {"system": platform.system(), "machine": platform.machine(), "limits": found}
    said = f"{platform.system()} {platform.release()} on {platform.machine()}"
    if found:
        return Check("platform", "note", f"{said}: {'; '.join(found)}")
    return Check("platform", "ok", f"{said}; nothing is missing here")


def _packages(report: Report) -> Check:
    needed, optional = requirements()
    installed = {
        name: installed_version(name) for name in [*needed, *(name for names in optional.values() for name in names)]
    }
    extras = {extra: all(installed[name] for name in names) for extra, names in optional.items() if extra in EXTRAS}
    report.facts["packages"] = dict(sorted(installed.items()))
    report.facts["extras"] = extras
    missing = [name for name in needed if not installed[name]]
    if missing:
        return Check(
            "packages", "problem", f"missing: {', '.join(missing)}", "Reinstall with: pip install cmbagent-nb."
        )
    said = ", ".join(
        f"{name} {installed[name]}" for name in ("ag2", "jupyterlab", "ipykernel", "papermill") if installed.get(name)
    )
    without = [name for name, there in extras.items() if not there]
    have = [name for name, there in extras.items() if there]
    text = f"{said}; extras: {', '.join(have) or 'none'}"
    if without:
        added = "; ".join(f"{name}: {EXTRAS[name]}" for name in without)
        return Check("packages", "ok", text, f'pip install "cmbagent-nb[EXTRA]" adds {added}.')
    return Check("packages", "ok", text)


def requirements() -> tuple[list[str], dict[str, list[str]]]:
    """Return the packages that are needed, and those of each extra, as the distribution names them."""
    needed: list[str] = []
    optional: dict[str, list[str]] = {}
    try:
        found = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return needed, optional  # used from a folder, without having been installed
    for text in found:
        name, extra = _REQUIREMENT.match(text), _EXTRA.search(text)
        if name is None or name[0].lower() == DISTRIBUTION:
            continue
        if extra is None:
            needed.append(name[0])
        else:
            optional.setdefault(extra[1], []).append(name[0])
    return needed, optional


def installed_version(name: str) -> str | None:
    """Return the version of an installed package."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _panel(report: Report) -> Check:
    from cmbagent_nb.panel import panel_status

    found = panel_status()
    report.facts["panel"] = found
    if found["built"] and found["enabled"]:
        return Check("panel", "ok", "the JupyterLab panel is installed and switched on")
    what, _, step = str(found["why"]).partition(". ")
    return Check("panel", "note", f"{what[:1].lower()}{what[1:].rstrip('.')}; all else works without it", step)


# ---- the workspace


def _workspace(home: Path) -> Check:
    from cmbagent_nb.store.filesystem import network_file_system

    there = next(place for place in (home, *home.parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        step = "Make it writable, or choose another with CMBAGENT_HOME."
        return Check("workspace", "problem", f"{home} cannot be written", step)
    kind = network_file_system(there)
    if kind:
        step = "Set CMBAGENT_HOME to a folder on a local disk, or CMBAGENT_DATABASE_URL to a PostgreSQL server."
        return Check("workspace", "problem", f"{home} is on a network file system ({kind})", step)
    free = shutil.disk_usage(there).free
    said = f"{home}, {free / 1e9:.1f} GB free" + ("" if home.exists() else "; made when it is first used")
    if free < LEAST_SPACE:
        return Check("workspace", "problem", said, "Make room, or choose another with CMBAGENT_HOME.")
    return Check("workspace", "ok", said)


def _database(home: Path, url: str) -> Check:
    from cmbagent_nb.store.database import FILE_NAME, VERSIONS
    from cmbagent_nb.store.health import damage
    from cmbagent_nb.store.sqlite import connect, readable
    from cmbagent_nb.workflow.repair import journals

    if url:
        return _server(url)
    path = home / FILE_NAME
    if found := damage(path):
        more = f" and {len(found) - 2} more" if len(found) > 2 else ""
        step = f"{REPAIR} Move the file away yourself only to begin with an empty one."
        return Check("database", "problem", f"{path} is damaged ({'; '.join(found[:2])}{more})", step)
    if not path.exists() or not path.stat().st_size:
        lost = sum(1 for _ in journals(home))
        if lost:
            what = f"{path} is lost: {lost} run{'s are' if lost != 1 else ' is'} in journals only"
            return Check("database", "problem", what, REPAIR)
        return Check("database", "ok", f"SQLite {sqlite3.sqlite_version}; made when it is first used")
    source, mode, copy = readable(path)
    try:
        with closing(connect(source, mode, timeout=2.0)) as connection:
            there = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if there else None
            runs = connection.execute("SELECT COUNT(*) FROM workflow_runs").fetchone()[0] if row else 0
    except sqlite3.Error as error:
        return Check("database", "problem", f"{path} is damaged ({error})", REPAIR)
    finally:
        if copy is not None:
            shutil.rmtree(copy, ignore_errors=True)
    version = None if row is None else str(row[0])
    if version is not None and version not in VERSIONS:
        step = "Update cmbagent_nb, or choose another workspace with CMBAGENT_HOME."
        return Check(
            "database", "problem", f"{path} has the schema {version}, which is newer than this version knows", step
        )
    said = f"{path}, {f'schema {version}' if version else 'no schema'}, {runs} run{'s' if runs != 1 else ''}"
    if version != VERSIONS[-1]:
        said += f"; brought to schema {VERSIONS[-1]} when it is next used"
    return Check("database", "ok", said)


def _records(home: Path, url: str) -> Check:
    from cmbagent_nb.store.database import FILE_NAME
    from cmbagent_nb.workflow.inspection import inspect

    if url:
        return Check("records", "ok", "journals are compared with an SQLite database only")
    found = list(inspect(home, home / FILE_NAME))
    if not found:
        return Check("records", "ok", "the database and the journals of the runs hold the same")
    found.sort(key=lambda item: item.slight)
    shown = "; ".join(f"{item.run}: {item.what}" for item in found[:MOST_RUNS])
    more = f"; and {len(found) - MOST_RUNS} more" if len(found) > MOST_RUNS else ""
    return Check("records", "note" if found[0].slight else "problem", shown + more, REPAIR)


def _server(url: str) -> Check:
    try:
        import psycopg
    except ImportError:
        step = 'Install it with: pip install "cmbagent-nb[postgres]".'
        return Check("database", "problem", "PostgreSQL needs the package 'psycopg'", step)
    from cmbagent_nb.store.connection import server_arguments
    from cmbagent_nb.store.database import without_password

    shown = without_password(url)
    try:
        with psycopg.connect(**{**server_arguments(url), "connect_timeout": 3}) as connection:
            connection.execute("SELECT 1")
    except psycopg.Error as error:
        line = str(error).strip().splitlines()[0]
        return Check("database", "problem", f"the server does not answer ({line})", "Check CMBAGENT_DATABASE_URL.")
    return Check("database", "ok", shown)


def _processes(home: Path) -> Check:
    from cmbagent_nb.workflow.leftovers import leftovers

    try:
        found = leftovers(home)
    except sqlite3.Error:
        return Check("processes", "note", "this database does not say whether code of ended runs still runs")
    if not found:
        return Check("processes", "ok", "no code of an ended run still runs")
    said = "; ".join(f"{name}: {', '.join(str(item.pid) for item in items)}" for name, items in found.items())
    step = "Resume the run to wait for it, or end it with: cmbagent cancel RUN, or all with: cmbagent doctor --repair."
    return Check("processes", "note", f"code of ended runs still runs ({said})", step)


# ---- models and agents


def chosen_model(settings: Settings, environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Tell which model a run would take that names none, and why: ``{"model", "reason"}``; None when there is none."""
    from cmbagent_nb.llm.providers import available, check
    from cmbagent_nb.llm.spec import HOW_TO_SET, ModelSpec

    spec = ModelSpec.parse(settings.model)
    if spec.provider != "auto":
        check(spec, settings, environ)
        return {"model": str(spec), "reason": f"set by {settings.sources.get('model', 'the settings')}"}
    choices = available(environ, settings)
    if choices:
        return {"model": str(choices[0].spec), "reason": choices[0].reason}
    why = "no key is set and no server answers; a playbook answers its own recorded task. "
    return {"model": None, "reason": why + HOW_TO_SET}


def _model(report: Report, settings: Settings, environ: Mapping[str, str]) -> Check:
    report.facts["model"] = {"setting": settings.model, "model": None, "reason": ""}
    try:
        found = chosen_model(settings, environ)
    except CMBAgentError as error:
        report.facts["model"]["reason"] = str(error)
        raise
    report.facts["model"].update(found)
    if found["model"] is None:
        why, _, step = found["reason"].partition(". ")
        return Check("model", "note", f"{settings.model} takes none: {why}", step)
    name = f"{settings.model} takes {found['model']}" if settings.model == "auto" else found["model"]
    return Check("model", "ok", f"{name}: {found['reason']}")


def providers(settings: Settings, environ: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """List the providers: which of them can be used here, and what the others need. No key is shown."""
    from cmbagent_nb.llm.providers import check, ollama_url
    from cmbagent_nb.llm.servers import chat_models, ollama_models
    from cmbagent_nb.llm.spec import PROVIDERS, ModelSpec

    environ = os.environ if environ is None else environ
    found = []
    for item in PROVIDERS.values():
        how = ""
        try:
            check(ModelSpec(item.name, item.default or "any"), settings, environ)
        except CMBAgentError as error:
            how = error.next_step
        if item.name == "ollama" and not how and not chat_models(ollama_models(url=ollama_url(environ))):
            how = "Start Ollama and pull a model that can chat, such as: ollama pull llama3.1."
        variable = next((name for name in item.keys if environ.get(name)), item.keys[0] if item.keys else None)
        found.append(
            {
                "provider": item.name,
                "title": item.title,
                "usable": not how,
                "key": variable,
                "key_set": bool(variable and environ.get(variable)),
                "installed": installed_version(item.package.replace("google.", "google-")) is not None,
                "default": item.default or None,
                "extra": item.extra,
                "how": how,
            }
        )
    return found


def _keys(report: Report, settings: Settings, environ: Mapping[str, str]) -> Check:
    found = providers(settings, environ)
    report.facts["providers"] = found
    keys = [item["key"] for item in found if item["key_set"]]
    usable = [item["provider"] for item in found if item["usable"]]
    said = f"{', '.join(keys)} set" if keys else "no provider's key is set"
    return Check("keys", "ok" if keys else "note", f"{said}; can be named: {', '.join(usable) or 'none'}")


def _playbooks(report: Report) -> Check:
    from cmbagent_nb.llm.playbook import playbooks

    names = [item.name for item in playbooks()]
    report.facts["playbooks"] = names
    return Check("playbooks", "ok" if names else "note", ", ".join(names) or "none")


def _starter_skills() -> Check:
    from cmbagent_nb.skills.starter.install import problems, shipped

    names = [folder.name for folder in shipped()]
    found = problems()
    if not names or found:
        what = "; ".join(f"{name}: {why}" for name, why in found.items()) or "none are in this installation"
        step = "Reinstall with: pip install --force-reinstall cmbagent-nb."
        return Check("starter skills", "problem", what, step)
    return Check("starter skills", "ok", ", ".join(names))


def _agents(home: Path, extra: str) -> Check:
    from cmbagent_nb.agents.registry import Registry

    return Check("agents", "ok", ", ".join(Registry.load(extra, home).names()))
