"""Decides whether a model call is retried, and explains to the user when it is not.

=====================================  =======================================================
429, 503, 529, "overloaded"            waited for (``rate_limits``), as long as the server asks or for
                                       the usual window; not when the quota is used up
408, 409, 425 and all other 5xx        tried again after a growing pause
a connection cut or refused            tried again
an answer that cannot be read          tried again
no byte within ``first_byte_timeout``  tried again once
no answer within ``call_timeout``      not tried again: it would only double the wait
any other status                       not tried again
=====================================  =======================================================

The providers' packages have no error class in common, so errors are recognized by what they carry.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cmbagent_nb.errors import ModelCallFailed
from cmbagent_nb.llm.http import Exchange
from cmbagent_nb.llm.rate_limits import PATIENCE, asked_wait
from cmbagent_nb.llm.spec import PROVIDERS

#: How often a call is tried in all.
TRIES = 4
#: Seconds of the first pause; each next one is twice as long.
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 20.0

_AGAIN = frozenset({408, 409, 425})
_LIMITED = frozenset({429, 503, 529})
_BUSY = re.compile(r"overload|rate.?limit|too many requests|at capacity|temporarily unavailable", re.IGNORECASE)
_CONNECTION = frozenset({"APIConnectionError", "TransportError", "NetworkError", "ProtocolError", "ConnectError"})
_USED_UP = ("insufficient_quota", "billing_hard_limit_reached", "credit balance is too low")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a call failed: ``status`` of HTTP if one came, and what to do about it."""

    reason: str
    status: int | None
    again: bool
    next_step: str
    #: Seconds that the server asks to wait.
    retry_after: float | None = None
    #: Whether the server has a limit that is waited for.
    limited: bool = False
    #: How often a call that fails like this is made in all.
    tries: int = TRIES

    def pause(self, tried: int) -> float:
        """Return how many seconds to wait after so many tries."""
        pause: float = min(FIRST_PAUSE * 2 ** (tried - 1), LONGEST_PAUSE)
        return pause * (0.8 + 0.4 * (time.monotonic_ns() % 1000) / 1000)  # apart from other calls that wait


#: A server that answers without an answer: with no choice in it.
NO_ANSWER = Failure(
    "the server answered with no choice in it, so there is no reply",
    None,
    True,
    "Try again later, or take another model with --model.",
)


def understand(error: BaseException, seen: Exchange, *, provider: str, timeout: float) -> Failure:
    """Tell what an error of a provider's package means."""
    if seen.stalled:
        step = "Raise CMBAGENT_FIRST_BYTE_TIMEOUT if the model needs longer, or take another model."
        return Failure(f"the server sent nothing for {seen.patience:g} s", None, True, step, tries=2)
    status = _status(error) or (seen.status if seen.status is not None and seen.status >= 400 else None)
    text = _text(error)
    if status is not None:
        return _of_status(status, text, error, provider)
    names = {kind.__name__ for kind in type(error).__mro__}
    if isinstance(error, TimeoutError) or "APITimeoutError" in names or "TimeoutException" in names:
        step = "Raise CMBAGENT_CALL_TIMEOUT, or take another model."
        return Failure(f"there was no answer within {timeout:g} s", None, False, step)
    if isinstance(error, ConnectionError) or names & _CONNECTION:
        cause = error.__cause__ or error
        if "ConnectError" in {kind.__name__ for kind in type(cause).__mro__}:
            return Failure(f"the server cannot be reached ({_text(cause)})", None, True, _reach(provider))
        return Failure(f"the connection was cut ({_text(cause)})", None, True, _reach(provider))
    if seen.requests:
        step = "Check that the server speaks the provider's protocol (CMBAGENT_BASE_URL), or take another model."
        return Failure(f"the answer cannot be read ({type(error).__name__}: {text})", seen.status, True, step)
    return Failure(
        f"the call cannot be made ({type(error).__name__}: {text})", None, False, "Take another model with --model."
    )


def call_failed(failure: Failure, *, model: str, tries: int) -> ModelCallFailed:
    """Make the error that the user sees when a call has failed for good."""
    tried = f" after {tries} tries" if tries > 1 else ""
    status = f" with status {failure.status}" if failure.status is not None else ""
    return ModelCallFailed(
        f"the call of model {model} failed{status}{tried}: {failure.reason}",
        failure.next_step,
        model=model,
        status=failure.status,
        tries=tries,
    )


def _of_status(status: int, text: str, error: BaseException, provider: str) -> Failure:
    keys = PROVIDERS[provider].keys if provider in PROVIDERS else ()
    key = keys[0] if keys else "the API key"
    used_up = any(mark in text or mark in str(getattr(error, "body", "")) for mark in _USED_UP)
    if used_up:
        return Failure(text, status, False, "Check the quota and billing of the account, or take another model.")
    if status in (401, 403):
        return Failure(text, status, False, f"Check the key in {key}, and that it may use this model.")
    if status == 404:
        return Failure(text, status, False, "Check the name of the model (--model), and CMBAGENT_BASE_URL if set.")
    later = "Try again later, or take another model with --model."
    if status in _LIMITED or (status >= 500 and _BUSY.search(text)):
        wait = asked_wait(_headers(error), f"{text} {getattr(error, 'body', '')}")
        if wait is not None and wait > PATIENCE:
            step = f"Try again in {math.ceil(wait / 60)} minutes, or take another model."
            return Failure(text, status, False, step, wait)
        return Failure(text, status, True, later, wait, limited=True)
    if status in _AGAIN or status >= 500:
        return Failure(text, status, True, later)
    return Failure(text, status, False, "Take another model with --model, or ask for less in one step.")


def _status(error: BaseException) -> int | None:
    for name in ("status_code", "code"):
        value = getattr(error, name, None)
        if isinstance(value, int) and 400 <= value < 600:
            return value
    return None


def _headers(error: BaseException) -> Mapping[str, Any]:
    headers = getattr(getattr(error, "response", None), "headers", None)
    return headers if isinstance(headers, Mapping) else {}


def _text(error: BaseException) -> str:
    body = getattr(error, "body", None)
    if isinstance(body, Mapping) and isinstance(body.get("message"), str):
        return str(body["message"])[:500]
    return (str(error) or type(error).__name__)[:500]


def _reach(provider: str) -> str:
    if provider == "ollama":
        return "Start it with: ollama serve."
    return "Check the network, and CMBAGENT_BASE_URL if it is set."
