"""The HTTP clients that providers share: one of a kind for each event loop.

An own client for every agent's turn would cost 30 ms and open a new connection each time. The
clients have no time limit of their own: the gateway sets one around each call. Within :func:`watched` they
note what goes over the wire, so that a call that was sent is told from one that was not, and read each answer
(``reading.body``): the provider's package gets it in a form that it can take, and an error in a 200 with its status.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from cmbagent_nb.llm.reading.body import Reply, read_body

if TYPE_CHECKING:
    import httpx
    import httpx2


#: Seconds for a connection to be made.
CONNECT_TIMEOUT = 15.0


@dataclass
class Exchange:
    """What one model call sent and got over HTTP."""

    requests: int = 0
    status: int | None = None
    reply: Reply | None = None


_exchange: ContextVar[Exchange | None] = ContextVar("cmbagent_exchange", default=None)

_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Any]] = WeakKeyDictionary()


@contextmanager
def watched() -> Iterator[Exchange]:
    """Watch what goes over the wire within the block."""
    seen = Exchange()
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
            timeout=httpx2.Timeout(None, connect=CONNECT_TIMEOUT), verify=_certificates()
        )
    client: httpx2.AsyncClient = kept["httpx2"]
    return client


def shared_client_1() -> httpx.AsyncClient:
    """Return the client of the running loop for Gemini and Ollama, which use the older httpx."""
    import httpx

    kept = _clients.setdefault(asyncio.get_running_loop(), {})
    if "httpx" not in kept:
        kept["httpx"] = _reading(httpx.AsyncClient)(
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT), verify=_certificates()
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
        async def send(self, request: Any, **options: Any) -> Any:
            under_way = _exchange.get()
            if under_way is None:
                return await super().send(request, **options)
            under_way.requests += 1
            return await _read(under_way, await super().send(request, **options))

    return ReadingClient


async def _read(under_way: Exchange, response: Any) -> Any:
    under_way.status = response.status_code
    if "json" not in response.headers.get("content-type", ""):
        return response
    answer = read_body(await response.aread(), response.status_code)
    if answer is None:
        return response
    under_way.reply = answer.reply
    under_way.status = answer.status or response.status_code
    sent = [
        (name, value)
        for name, value in response.headers.multi_items()
        if name.lower() not in ("content-length", "content-encoding", "transfer-encoding")
    ]
    return type(response)(under_way.status, headers=sent, json=answer.body, request=response.request)
