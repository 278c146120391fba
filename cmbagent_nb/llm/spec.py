"""Parses model names: ``provider:name``, ``playbook:NAME`` or ``auto``.

>>> ModelSpec.parse("openai:gpt-5")
ModelSpec(provider='openai', name='gpt-5')
>>> str(ModelSpec.parse(" playbook:planck-desi "))
'playbook:planck-desi'
>>> ModelSpec.parse("claude-sonnet-5-5").provider
'anthropic'
"""

from __future__ import annotations

from dataclasses import dataclass

from cmbagent_nb.errors import UnknownModel


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider of models.

    ``keys`` are the environment variables that may hold its API key, ``extra`` the extra to install,
    ``package`` what that brings, ``prices`` its name in the price table, ``default`` the model of ``auto``.
    """

    name: str
    title: str
    keys: tuple[str, ...]
    extra: str
    package: str
    prices: str
    default: str
    prefixes: tuple[str, ...]


#: The providers that can be named, in the order in which ``auto`` looks for their keys.
PROVIDERS: dict[str, Provider] = {
    item.name: item
    for item in (
        Provider("openai", "OpenAI", ("OPENAI_API_KEY",), "openai", "openai", "openai", "gpt-5.5",
                 ("gpt-", "o1", "o3", "o4", "chatgpt-")),
        Provider("anthropic", "Anthropic", ("ANTHROPIC_API_KEY",), "anthropic", "anthropic", "anthropic",
                 "claude-sonnet-5-5", ("claude-",)),
        Provider("gemini", "Google Gemini", ("GEMINI_API_KEY", "GOOGLE_API_KEY"), "gemini", "google.genai", "google",
                 "gemini-3.8-flash", ("gemini-",)),
        Provider("ollama", "Ollama", (), "ollama", "ollama", "ollama", "", ()),
    )
}  # fmt: skip

AUTO = "auto"
PLAYBOOK = "playbook"

HOW_TO_SET = (
    "Set one with --model provider:name (openai, anthropic, gemini or ollama) and its API key in the environment,"
    " or with CMBAGENT_BASE_URL for an OpenAI-compatible server."
)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model by its provider and name; for a playbook the name is the playbook's."""

    provider: str
    name: str

    @classmethod
    def parse(cls, text: str | ModelSpec) -> ModelSpec:
        """Read a model's name as users write it.

        Raises
        ------
        UnknownModel
            The provider is not known, or the name of the model is missing.
        """
        if isinstance(text, ModelSpec):
            return text
        text = text.strip()
        if text.lower() == AUTO:
            return cls(AUTO, "")
        provider, colon, name = text.partition(":")
        if not colon:
            return cls(_provider_of(text), text)
        provider = {"google": "gemini", "claude": "anthropic"}.get(provider.strip().lower(), provider.strip().lower())
        if provider not in PROVIDERS and provider != PLAYBOOK:
            if text.lower().startswith(tuple(p for item in PROVIDERS.values() for p in item.prefixes)):
                return cls(_provider_of(text), text)  # a fine-tuned model, such as gpt-4o:mine
            raise UnknownModel(
                f"the provider {provider!r} of model {text!r} is not known",
                f"Write provider:name with one of {', '.join(PROVIDERS)}, or playbook:NAME, or auto.",
                model=text,
            )
        if not name.strip():
            raise UnknownModel(
                f"the model {text!r} names a provider and no model",
                f"Write {provider}:NAME, such as {provider}:{_example(provider)}.",
                model=text,
            )
        return cls(provider, name.strip())

    @property
    def is_playbook(self) -> bool:
        """Tell whether recorded replies stand in for a model."""
        return self.provider == PLAYBOOK

    def __str__(self) -> str:
        return f"{self.provider}:{self.name}" if self.name else self.provider


def _provider_of(name: str) -> str:
    for item in PROVIDERS.values():
        if name.lower().startswith(item.prefixes or ("\0",)):
            return item.name
    raise UnknownModel(
        f"the model {name!r} is not known" if name else "the name of the model is empty",
        "Write provider:name, such as openai:gpt-5, or playbook:NAME, or auto.",
        model=name,
    )


def _example(provider: str) -> str:
    if provider == PLAYBOOK:
        return "planck-desi"
    return PROVIDERS[provider].default or "llama3.1"
