"""Presents the gateway to AG2 as a model configuration and a client."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from cmbagent_nb.errors import ModelError
from cmbagent_nb.llm import http, prices
from cmbagent_nb.llm.providers import provider_config, takes_limit
from cmbagent_nb.llm.spec import PROVIDERS, ModelSpec

if TYPE_CHECKING:
    from ag2.events import ModelResponse

    from cmbagent_nb.llm.gateway import Gateway

#: Between these is a limit that was raised after a reply was cut.
SHORTEST_LIMIT, LONGEST_LIMIT = 16_000, 64_000


class GatewayConfig:
    """An AG2 model configuration whose calls go through a gateway.

    ``inner`` is the configuration that really answers; None for ``spec``'s own, which is made
    with the first call.
    """

    def __init__(
        self, gateway: Gateway, *, provider: str, model: str, inner: Any = None, spec: ModelSpec | None = None
    ) -> None:
        self.gateway = gateway
        self.inner = inner
        self.spec = spec
        self._provider = provider
        self._model = model

    @property
    def provider(self) -> str:
        """Name the provider."""
        return self._provider

    @property
    def model(self) -> str:
        """Name the model."""
        return self._model

    def copy(self) -> GatewayConfig:
        """Return itself: there is nothing to change."""
        return self

    def create(self) -> GatewayClient:
        """Make a client; what it needs is imported and opened with its first call."""
        return GatewayClient(self)

    def create_files_client(self) -> Any:
        """Refuse: files go to models as text in prompts."""
        raise ModelError("files are not uploaded to providers", "Give the file to the run as an input.")

    async def open(self, limit: int | None = None) -> Any:
        """Make the provider's own client, on the loop that runs; ``limit`` is the most tokens of a reply."""
        if self.spec is not None:
            return provider_config(self.spec, settings=self.gateway.settings, max_tokens=limit).create()
        if limit is not None:
            return self.inner.copy(max_tokens=limit).create()
        return self.inner.create()

    @property
    def takes_limit(self) -> bool:
        """Tell whether a larger limit than the one set may help against replies that are cut."""
        if self.spec is not None:
            return takes_limit(self.spec, self.gateway.settings)
        return isinstance(getattr(self.inner, "max_tokens", None), int)


class GatewayClient:
    """The client that AG2 calls."""

    def __init__(self, config: GatewayConfig) -> None:
        self.config = config
        self._inner: Any = None
        self._limit: int | None = None
        self._limit_refused = False

    async def inner(self) -> Any:
        """Return the provider's client, made on first use."""
        if self._inner is None:
            self._inner = await self.config.open(self._limit)
        return self._inner

    def raise_limit(self, used: float | None) -> None:
        """Allow a longer reply than one that was cut after ``used`` tokens, if the provider accepts a limit."""
        if self.config.takes_limit and not self._limit_refused:
            self._limit = min(max(2 * int(used or 0), SHORTEST_LIMIT), LONGEST_LIMIT)
            self._inner = None

    def drop_limit(self) -> bool:
        """Give up a raised limit, which the provider may have refused; tell whether there was one."""
        if self._limit is None:
            return False
        self._limit, self._inner, self._limit_refused = None, None, True
        return True

    async def __call__(
        self,
        messages: Sequence[Any],
        context: Any,
        *,
        tools: Iterable[Any] = (),
        response_schema: Any = None,
        serializer: Any = None,
    ) -> ModelResponse:
        """Answer one call."""
        if self.config.provider not in _warmed and not self.config.gateway.replay:
            await asyncio.to_thread(warm, self.config.provider)
        options = {"tools": list(tools), "response_schema": response_schema, "serializer": serializer}
        return await self.config.gateway.answer(self, list(messages), context, options)


_warmed: set[str] = set()


def warm(provider: str) -> None:
    """Import what the first call of a provider needs, which takes a second; call it from a thread."""
    if provider in _warmed:
        return
    importlib.import_module("ag2")
    if provider not in prices.FREE:
        importlib.import_module("genai_prices")
    if provider in PROVIDERS:
        importlib.import_module(f"ag2.config.{provider}")
        importlib.import_module(PROVIDERS[provider].package)
        http.warm()
    _warmed.add(provider)
