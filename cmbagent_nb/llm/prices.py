"""Computes the cost of a model call from the price table of ``genai-prices``.

The table is on the disk; nothing is fetched. A model that it does not hold has an unknown cost,
None, which is never shown as zero. A playbook costs nothing, and so does a model on one's own
machine (Ollama).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from cmbagent_nb.llm.reading.body import count as tokens
from cmbagent_nb.llm.spec import PLAYBOOK, PROVIDERS

FREE = frozenset({PLAYBOOK, "ollama"})

#: The counts of a call's tokens, by our names.
Tokens = Mapping[str, int]


def tokens_of(usage: Any, provider: str) -> dict[str, int]:
    """Bring a provider's usage into our counts: prompt, completion, total, cached.

    ``prompt_tokens`` counts all input; Anthropic leaves out what was read from or written to its
    cache, which is added here.
    """

    def count(name: str) -> int:
        return tokens(getattr(usage, name, None)) or 0

    prompt, completion = count("prompt_tokens"), count("completion_tokens")
    cached, written = count("cache_read_input_tokens"), count("cache_creation_input_tokens")
    if provider == "anthropic":
        prompt += cached + written
    counts = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion
        if provider == "anthropic"
        else count("total_tokens") or prompt + completion,
        "cached_tokens": cached,
    }
    if written:
        counts["cache_write_tokens"] = written
    if count("thinking_tokens"):
        counts["reasoning_tokens"] = count("thinking_tokens")
    return counts


def cost(provider: str, model: str, usage: Tokens) -> float | None:
    """Return the price of a call in US dollars, or None when it is not known.

    >>> cost("playbook", "planck-desi", {"prompt_tokens": 0})
    0.0
    >>> cost("openai", "no-such-model", {"prompt_tokens": 1000}) is None
    True
    """
    if provider in FREE:
        return 0.0
    from genai_prices import Usage, calc_price

    prompt, cached = usage.get("prompt_tokens", 0), usage.get("cached_tokens", 0)
    counts = Usage(
        input_tokens=prompt,
        output_tokens=usage.get("completion_tokens", 0),
        cache_read_tokens=min(cached, prompt),
        cache_write_tokens=min(usage.get("cache_write_tokens", 0), max(prompt - cached, 0)),
    )
    listed = PROVIDERS[provider].prices if provider in PROVIDERS else provider
    try:
        return float(calc_price(counts, model, provider_id=listed).total_price)
    except (LookupError, ValueError):
        return None


@lru_cache(maxsize=256)
def is_priced(provider: str, model: str) -> bool:
    """Tell whether the cost of a model's calls can be known."""
    return cost(provider, model, {"prompt_tokens": 1000, "completion_tokens": 1000}) is not None
