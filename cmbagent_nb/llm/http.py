"""The HTTP clients that providers share: one of a kind for each event loop.

An own client for every agent's turn would cost 30 ms and open a new connection each time. The
clients have no time limit of their own: the gateway sets one around each call. They note what
goes over the wire within :func:`watched`, so that a call that was sent is told from one that was not.
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
    body: Any = None


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
        kept["httpx2"] = httpx2.AsyncClient(
            timeout=httpx2.Timeout(None, connect=CONNECT_TIMEOUT),
            verify=_certificates(),
            event_hooks={"request": [_sent], "response": [_received]},
        )
    client: httpx2.AsyncClient = kept["httpx2"]
    return client


def shared_client_1() -> httpx.AsyncClient:
    """Return the client of the running loop for Gemini and Ollama, which use the older httpx."""
    import httpx

    kept = _clients.setdefault(asyncio.get_running_loop(), {})
    if "httpx" not in kept:
        kept["httpx"] = httpx.AsyncClient(
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT),
            verify=_certificates(),
            event_hooks={"request": [_sent], "response": [_received]},
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


async def _sent(request: Any) -> None:
    under_way = _exchange.get()
    if under_way is not None:
        under_way.requests += 1


async def _received(response: Any) -> None:
    under_way = _exchange.get()
    if under_way is None:
        return
    under_way.status = response.status_code
    if "json" in response.headers.get("content-type", ""):
        await response.aread()
        try:
            under_way.body = response.json()
        except ValueError:
            under_way.body = None
