"""Builds AG2 configurations from model names, with keys and extras checked.

:func:`check` finds everything that can be wrong before a run is made, without importing AG2.
Retries of the providers' own packages are turned off: the gateway retries and records each try.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import MissingExtra, MissingKey, ModelError
from cmbagent_nb.llm.http import shared_client, shared_httpx_client
from cmbagent_nb.llm.servers import OLLAMA_URL, Served, chat_models, models_of, ollama_models
from cmbagent_nb.llm.spec import PROVIDERS, ModelSpec
from cmbagent_nb.redaction import redactor

if TYPE_CHECKING:
    from ag2.config import ModelConfig

    from cmbagent_nb.settings import Settings

#: The most models that an error names.
_MOST_NAMED = 12
#: What is sent as a key to a server that needs none.
NO_KEY = "no-key"
#: Tokens that Anthropic may answer with; the interface asks for a limit.
ANTHROPIC_MAX_TOKENS = 16000


@dataclass(frozen=True, slots=True)
class Choice:
    """A model that can be used here and now, and why."""

    spec: ModelSpec
    reason: str


def check(spec: ModelSpec, settings: Settings, environ: Mapping[str, str] | None = None) -> None:
    """Raise what is missing for a model to be called: its playbook, its package, its key.

    Raises
    ------
    UnknownModel
        There is no such playbook.
    MissingExtra
        The provider's package is not installed.
    MissingKey
        The provider's key is not in the environment.
    """
    environ = os.environ if environ is None else environ
    if spec.is_playbook:
        from cmbagent_nb.llm.playbook import Playbook

        Playbook.load(spec.name)
        return
    provider = PROVIDERS.get(spec.provider)
    if provider is None:
        raise ModelError(f"the model {str(spec)!r} cannot be called", "Name a model as provider:name.", model=str(spec))
    if not installed(provider.package):
        raise MissingExtra(
            f"{provider.title} needs the package {provider.package.split('.')[0]!r}, which is not installed",
            f'Install it with: pip install "cmbagent-nb[{provider.extra}]".',
            extra=provider.extra,
        )
    if not provider.keys or (spec.provider == "openai" and settings.base_url):
        return
    if not any(environ.get(name) for name in provider.keys):
        raise MissingKey(
            f"the model {str(spec)!r} needs an API key in {provider.keys[0]}",
            f"Set {provider.keys[0]}, or name another model with --model.",
            variable=provider.keys[0],
        )


def takes_limit(spec: ModelSpec, settings: Settings) -> bool:
    """Tell whether replies of a model have a limit of length that is ours, or a server's default, to raise."""
    return spec.provider == "anthropic" or (spec.provider == "openai" and bool(settings.base_url))


def provider_config(
    spec: ModelSpec,
    *,
    settings: Settings,
    environ: Mapping[str, str] | None = None,
    max_tokens: int | None = None,
) -> ModelConfig:
    """Make the AG2 configuration of a model; call it on the loop that the calls will run on.

    ``max_tokens`` is the most tokens that a reply may have, for models that :func:`takes_limit` names.
    """
    environ = os.environ if environ is None else environ
    check(spec, settings, environ)
    redactor().refresh()  # a key that was set a moment ago is known before it is used
    key = next((environ[name] for name in PROVIDERS[spec.provider].keys if environ.get(name)), None)
    if spec.provider == "openai":
        from ag2.config import OpenAIConfig
        from openai import omit

        return OpenAIConfig(
            model=spec.name,
            api_key=key or NO_KEY,
            base_url=settings.base_url or None,
            max_retries=0,
            http_client=shared_client(),
            max_tokens=omit if max_tokens is None else max_tokens,
        )
    if spec.provider == "anthropic":
        from ag2.config import AnthropicConfig

        return AnthropicConfig(
            model=spec.name,
            api_key=key,
            max_tokens=max_tokens or ANTHROPIC_MAX_TOKENS,
            max_retries=0,
            timeout=settings.call_timeout,
            http_client=shared_client(),
        )
    if spec.provider == "gemini":
        from ag2.config import GeminiConfig

        return GeminiConfig(model=spec.name, api_key=key, http_client=shared_httpx_client())
    from ag2.config import OllamaConfig

    return OllamaConfig(  # type: ignore[abstract]  # it uploads no files
        model=spec.name, host=ollama_url(environ), http_client=shared_httpx_client()
    )


def without_retries(config: Any) -> Any:
    """Return a copy of a user's AG2 configuration whose package does not retry by itself."""
    if getattr(config, "max_retries", 0):
        return config.copy(max_retries=0)
    return config


def available(
    environ: Mapping[str, str] | None = None, settings: Settings | None = None, *, timeout: float = 0.5
) -> list[Choice]:
    """List the models that could be used now, in the order in which ``auto`` takes them.

    A server named by ``CMBAGENT_BASE_URL`` first, then keys in the environment, then Ollama if it
    answers on this machine within ``timeout`` seconds. Of a server it is the first model that can chat.
    """
    environ = os.environ if environ is None else environ
    base_url = settings.base_url if settings is not None else environ.get("CMBAGENT_BASE_URL", "")
    choices: list[Choice] = []
    if base_url and installed("openai"):
        names = chat_models(models_of(base_url, environ.get("OPENAI_API_KEY"), timeout=timeout))
        choices += [Choice(ModelSpec("openai", name), f"the server at {base_url} answers") for name in names[:1]]
    for provider in PROVIDERS.values():
        variable = next((name for name in provider.keys if environ.get(name)), None)
        if variable and installed(provider.package) and not (provider.name == "openai" and base_url):
            choices.append(Choice(ModelSpec(provider.name, provider.default), f"{variable} is set"))
    if installed("ollama"):
        url = ollama_url(environ)
        names = chat_models(ollama_models(url=url, timeout=timeout))
        choices += [Choice(ModelSpec("ollama", name), f"Ollama answers at {url}") for name in names[:1]]
    return choices


def offered(spec: ModelSpec, settings: Settings, environ: Mapping[str, str] | None = None) -> str:
    """Return a sentence with the models that the server of ``spec`` has; empty where it cannot be asked."""
    environ = os.environ if environ is None else environ
    found: list[Served] = []
    if spec.provider == "openai" and settings.base_url:
        found = models_of(settings.base_url, environ.get("OPENAI_API_KEY"), timeout=2.0)
    elif spec.provider == "ollama":
        found = ollama_models(url=ollama_url(environ), timeout=2.0)
    if not found:
        return ""
    names = [f"{model.name}{'' if model.chat else ' (does not chat)'}" for model in found]
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"The server has {', '.join(names[:_MOST_NAMED])}{more}."


def ollama_url(environ: Mapping[str, str]) -> str:
    """Return where Ollama is: ``OLLAMA_HOST`` in any of the forms that Ollama itself takes.

    >>> ollama_url({"OLLAMA_HOST": "0.0.0.0"})
    'http://localhost:11434'
    """
    host = environ.get("OLLAMA_HOST", "").strip().rstrip("/")
    if not host:
        return OLLAMA_URL
    scheme, _, rest = host.rpartition("://")
    name, _, port = rest.partition(":")
    name = "localhost" if not name.strip("0.") else name
    return f"{scheme or 'http'}://{name}:{port or '11434'}"


def installed(package: str) -> bool:
    """Tell whether a provider's package is there, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False
