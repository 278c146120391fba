"""Shares HTTP clients among providers: one of each kind per event loop.

An own client for every agent's turn would cost 30 ms and open a new connection each time. The
clients have no time limit of their own: the gateway sets one around each call. Within :func:`watched` they
note what goes over the wire, to distinguish a call that was sent from one that was not, and read each answer
(``reading.body``): the provider's package gets it in a form that it can take, and an error in a 200 with its status.
A request that the server cannot take is sent again in a form that it can (``capabilities``), and one to which it
sends nothing for too long is given up.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from cmbagent_nb.llm import capabilities
from cmbagent_nb.llm.proxies import routed_transport
from cmbagent_nb.llm.reading.body import Reply, read_body

if TYPE_CHECKING:
    import httpx
    import httpx2


#: Seconds for a connection to be made.
CONNECT_TIMEOUT = 15.0


@dataclass
class Exchange:
    """Request and response of one model call over HTTP.

    ``patience`` are the seconds that the server may take to its first byte, 0 for no limit; ``stalled`` tells that it
    took longer. ``refused`` are the texts with which the server refused other forms of the request.
    """

    patience: float = 0.0
    requests: int = 0
    status: int | None = None
    reply: Reply | None = None
    stalled: bool = False
    refused: list[str] = field(default_factory=list)


_exchange: ContextVar[Exchange | None] = ContextVar("cmbagent_exchange", default=None)

_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Any]] = WeakKeyDictionary()


@contextmanager
def watched(patience: float = 0.0) -> Iterator[Exchange]:
    """Watch what goes over the wire within the block; a server may take ``patience`` seconds to its first byte."""
    seen = Exchange(patience)
    token = _exchange.set(seen)
    try:
        yield seen
    finally:
        _exchange.reset(token)


def shared_client() -> httpx2.AsyncClient:
    """Return the client of the running loop for OpenAI and Anthropic."""
    import httpx2

    kept = _clients.setdefault(asyncio.get_running_loop(), {})
    if "httpx2" not in kept:
        kept["httpx2"] = _reading(httpx2.AsyncClient)(
            timeout=httpx2.Timeout(None, connect=CONNECT_TIMEOUT),
            transport=routed_transport(httpx2)(_certificates()),
            trust_env=False,
        )
    client: httpx2.AsyncClient = kept["httpx2"]
    return client


def shared_httpx_client() -> httpx.AsyncClient:
    """Return the client of the running loop for Gemini and Ollama, which use the older httpx."""
    import httpx

    kept = _clients.setdefault(asyncio.get_running_loop(), {})
    if "httpx" not in kept:
        kept["httpx"] = _reading(httpx.AsyncClient)(
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT),
            transport=routed_transport(httpx)(_certificates()),
            trust_env=False,
        )
    client: httpx.AsyncClient = kept["httpx"]
    return client


async def close_clients() -> None:
    """Close the clients of the running loop."""
    for client in _clients.pop(asyncio.get_running_loop(), {}).values():
        await client.aclose()


@cache
def _certificates() -> ssl.SSLContext:
    """Make the certificate store once: it takes 20 ms, which the loop should not wait."""
    import httpx2

    return httpx2.create_ssl_context()


def warm() -> None:
    """Do the slow part of making a client; call it from a thread."""
    _certificates()


@cache
def _reading(client: Any) -> Any:
    """Make the class of clients that read the answers to model calls; there is one for each generation of httpx."""

    class ReadingClient(client):  # type: ignore[misc]  # the same code serves both
        async def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
            under_way = _exchange.get()
            if under_way is None:
                return await super().send(request, stream=stream, **options)

            async def once(prepared: Any) -> Any:
                under_way.requests += 1
                try:
                    async with asyncio.timeout(under_way.patience or None) as limit:
                        response = await super(ReadingClient, self).send(prepared, stream=True, **options)
                except TimeoutError:
                    under_way.stalled = limit.expired()
                    raise
                if not stream:
                    await response.aread()
                return await _read(under_way, response)

            return await _in_a_form_it_takes(self, request, once, under_way)

    return ReadingClient


async def _in_a_form_it_takes(client: Any, request: Any, send: Callable[[Any], Awaitable[Any]], seen: Exchange) -> Any:
    """Send a request, and if its server refuses its form, again in others; what worked is remembered."""
    body = _chat_body(request)
    if body is None:
        return await send(request)
    server, model = f"{request.url.scheme}://{request.url.host}:{request.url.port}", str(body["model"])
    first = form = capabilities.known(server, model)
    while True:
        adapted = form.adapt(body)
        prepared = request if adapted == body else _with_body(client, request, adapted)
        response = await send(prepared)
        if response.status_code < 400:
            if form != first:
                capabilities.remember(server, model, form)
            return response
        text = (await response.aread()).decode("utf-8", "replace")
        following = form.after(response.status_code, text, adapted)
        if following is None:
            return response
        seen.refused.append(text[:500])
        form = following


def _chat_body(request: Any) -> dict[str, Any] | None:
    """Return the body of a request for a chat completion; None for any other request."""
    if request.method != "POST" or "json" not in request.headers.get("content-type", ""):
        return None
    try:
        body = json.loads(request.content)
    except ValueError:
        return None
    chat = isinstance(body, dict) and isinstance(body.get("messages"), list) and isinstance(body.get("model"), str)
    return body if chat else None


def _with_body(client: Any, request: Any, body: dict[str, Any]) -> Any:
    headers = [(name, value) for name, value in request.headers.multi_items() if name.lower() != "content-length"]
    return client.build_request(request.method, request.url, headers=headers, json=body, extensions=request.extensions)


async def _read(under_way: Exchange, response: Any) -> Any:
    under_way.status = response.status_code
    if any(kind in response.headers.get("content-type", "") for kind in ("event-stream", "ndjson")):
        return response  # it comes piece by piece
    answer = read_body(await response.aread(), response.status_code)
    if answer is None:
        return response
    under_way.reply = answer.reply
    under_way.status = answer.status or response.status_code
    sent = [
        (name, value)
        for name, value in response.headers.multi_items()
        if name.lower() not in ("content-length", "content-encoding", "content-type", "transfer-encoding")
    ]
    return type(response)(under_way.status, headers=sent, json=answer.body, request=response.request)
