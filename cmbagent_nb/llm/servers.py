"""Lists the models of a server, and chooses one that can chat.

Servers list models of all kinds. One that embeds, ranks, transcribes, speaks, draws or moderates is recognized by its
type, capabilities and family on the server, else by its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cmbagent_nb.llm.proxies import proxy_for

OLLAMA_URL = "http://localhost:11434"

#: Families of models that embed or rank, as Ollama names them.
_NOT_CHAT_FAMILIES = frozenset(
    {"bert", "nomic-bert", "nomic-bert-moe", "xlm-roberta", "roberta", "clip", "gemma-embedding"}
)
#: What servers call the kinds and abilities of models that answer in words.
_CHAT = re.compile(r"chat|llm|vlm|completion|generat|instruct|tools|text|vision|reasoning|thinking", re.IGNORECASE)
_NOT_CHAT_KIND = re.compile(
    r"embed|rerank|rank|score|classif|transcri|speech|audio|tts|stt|image|diffusion|moderat|video", re.IGNORECASE
)
#: Names of models that do not answer in words.
_NOT_CHAT_NAME = re.compile(
    r"embed|(^|[/:_.-])(bge|e5|gte|minilm|sbert|sentence-?(t5|transformers?)|colbert|splade|rerank\w*|ranker|cross-encoder"
    r"|whisper|wav2vec\d?|parakeet|canary|tts|xtts|kokoro|bark|piper|speech|voxtral-mini-transcribe|transcribe|asr|stt"
    r"|dall-?e|stable-diffusion|sdxl|sd\d|flux|imagen|kandinsky|gpt-image|veo|sora|clip|siglip|yolo\w*"
    r"|moderation|omni-moderation|guard|shieldgemma|reward|ocr|davinci-edit|babbage|instructor)([/:_.\d-]|$)"
    r"|all-mpnet|paraphrase-|multilingual-e5|voyage-|jina-(clip|cl?olbert)|nomic-|mxbai|arctic-embed",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Served:
    """A model that a server has, and whether it answers in words."""

    name: str
    chat: bool


def models_of(base_url: str, key: str | None = None, *, timeout: float = 0.5) -> list[Served]:
    """Return the models of an OpenAI-compatible server in its order; none when it does not answer.

    Raises
    ------
    ModelError
        The server is to be reached through a proxy that cannot be used.
    """
    return _served(_get(f"{base_url.rstrip('/')}/models", timeout, key), ("data", "models"), ("id", "name", "model"))


def ollama_models(*, url: str = OLLAMA_URL, timeout: float = 0.5) -> list[Served]:
    """Return the models that Ollama has on this machine; none when it does not answer."""
    return _served(_get(f"{url}/api/tags", timeout), ("models",), ("name", "model"))


def chat_models(models: list[Served]) -> list[str]:
    """Return the names of those that answer in words."""
    return [model.name for model in models if model.chat]


def is_chat(name: str, about: Mapping[str, Any] | None = None) -> bool:
    """Tell whether a model answers in words, by what its server says of it, else by its name.

    >>> is_chat("nomic-embed-text"), is_chat("qwen3:8b"), is_chat("whisper-large-v3"), is_chat("llama-guard3:1b")
    (False, True, False, False)
    >>> is_chat("my-model", {"type": "embeddings"}), is_chat("bge-like-name-that-chats", {"type": "llm"})
    (False, True)
    """
    said = _said(about or {})
    if said is not None:
        return said
    return not _NOT_CHAT_NAME.search(name)


def _said(about: Mapping[str, Any]) -> bool | None:
    """Return what a server's own words say; None where it says nothing."""
    details = about.get("details")
    families = [details.get("family"), *(details.get("families") or [])] if isinstance(details, Mapping) else []
    if any(str(family).lower() in _NOT_CHAT_FAMILIES for family in families if family):
        return False
    capabilities = about.get("capabilities")
    if isinstance(capabilities, Mapping):  # {"completion_chat": true, "fine_tuning": false}
        capabilities = [name for name, has in capabilities.items() if has]
    words = [str(item) for item in capabilities] if isinstance(capabilities, list) else []
    words += [str(about[name]) for name in ("type", "task", "model_type", "pipeline_tag", "mode") if about.get(name)]
    methods = about.get("supported_generation_methods") or about.get("supportedGenerationMethods")
    words += [str(item) for item in methods] if isinstance(methods, list) else []
    if not words or all(word in ("model", "other") for word in words):
        return None
    chat = [word for word in words if _CHAT.search(word) and not _NOT_CHAT_KIND.search(word)]
    if chat:
        return True
    return False if any(_NOT_CHAT_KIND.search(word) for word in words) else None


def _served(answer: Any, lists: tuple[str, ...], fields: tuple[str, ...]) -> list[Served]:
    rows = answer if isinstance(answer, list) else None
    if isinstance(answer, dict):
        rows = next((answer[name] for name in lists if isinstance(answer.get(name), list)), None)
    items = [{fields[0]: row} if isinstance(row, str) else row for row in rows or [] if isinstance(row, str | dict)]
    named = [(next((str(item[field]) for field in fields if item.get(field)), ""), item) for item in items]
    return [Served(name, is_chat(name, item)) for name, item in named if name]


def _get(url: str, timeout: float, key: str | None = None) -> Any:
    """Return the JSON at ``url``, reached as the calls of models are; None when there is none."""
    if not url.startswith(("http://", "https://")):
        return None
    import httpx2

    proxy = proxy_for(url)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with httpx2.Client(proxy=proxy, trust_env=False, timeout=timeout, follow_redirects=True) as client:
            return client.get(url, headers=headers).raise_for_status().json()
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, OSError):
        return None
