"""Chooses the proxy of a request: one rule for model calls and for probing servers.

| rule | |
|---|---|
| this machine's own servers (``localhost``, 127.0.0.0/8, ``::1``) | are never reached through a proxy |
| hosts in ``NO_PROXY`` | are reached directly |
| any other | through ``HTTPS_PROXY``, ``HTTP_PROXY`` or ``ALL_PROXY``, or the proxy of the system's settings |
| a SOCKS proxy without its package, a scheme that is not known | is an error that says what to do, before any call |
"""

from __future__ import annotations

import importlib.util
import ipaddress
import urllib.request
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cmbagent_nb.errors import ModelError

if TYPE_CHECKING:
    import ssl

#: What a connection through a SOCKS proxy needs.
SOCKS_PACKAGE = "socksio"
_SCHEMES = ("http", "https", "socks5", "socks5h")


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.2", "::1", "api.openai.com", "127.0.0.1.example.org")]
    [True, True, True, False, False]
    """
    host = host.strip("[]").rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def proxy_for(url: str) -> str | None:
    """Return the URL of the proxy through which ``url`` is reached, or None for a direct connection.

    Raises
    ------
    ModelError
        The environment names a proxy that cannot be used; the error says what to install or to change.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host):
        return None
    proxies = urllib.request.getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all")
    if not found or urllib.request.proxy_bypass(host):
        return None
    proxy = found if "://" in found else f"http://{found}"
    scheme = urlsplit(proxy).scheme.lower()
    if scheme not in _SCHEMES:
        raise ModelError(
            f"the proxy {proxy} for {host} has the scheme {scheme!r}, which cannot be used",
            f"Set it to an address that begins with {', '.join(_SCHEMES)}, or add {host} to NO_PROXY.",
            proxy=proxy,
        )
    if scheme.startswith("socks") and importlib.util.find_spec(SOCKS_PACKAGE) is None:
        raise ModelError(
            f"{host} is reached through the SOCKS proxy {proxy}, which needs the package 'socksio'",
            f"Install it with: pip install socksio, or add {host} to NO_PROXY.",
            proxy=proxy,
        )
    return proxy


@cache
def routed_transport(library: Any) -> Any:
    """Return the class of transports of ``httpx`` or ``httpx2`` that choose the proxy for each request."""

    class RoutedTransport(library.AsyncBaseTransport):  # type: ignore[misc]  # the same code serves both
        def __init__(self, certificates: ssl.SSLContext) -> None:
            self._certificates = certificates
            self._transports: dict[str | None, Any] = {}

        async def handle_async_request(self, request: Any) -> Any:
            proxy = proxy_for(str(request.url))
            if proxy not in self._transports:
                self._transports[proxy] = library.AsyncHTTPTransport(verify=self._certificates, proxy=proxy)
            return await self._transports[proxy].handle_async_request(request)

        async def aclose(self) -> None:
            for transport in self._transports.values():
                await transport.aclose()

    return RoutedTransport
