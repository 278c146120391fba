"""A real OpenAI-compatible HTTP server on the loopback, with scripted replies.

>>> with OpenAIServer(lambda request: "hello") as server:        # doctest: +SKIP
...     settings = Settings(base_url=server.url)
...     server.count, server.requests[0].json["model"]

The handler is called on a server thread with the JSON of a request and returns what is answered:

=================  ===========================================================================
``"text"``         a reply with that text
a mapping          a reply with that mapping as JSON text
``Reply(...)``     a reply with tool calls, usage, reasoning, a model name of its own ...
``500``            an error status with an OpenAI-shaped body
``Status(...)``    an error status with headers (``retry_after=``), an error code or a raw body
``CUT``            the connection is closed without an answer
``CUT_BODY``       the headers and half of the body are sent, then the connection is closed
=================  ===========================================================================

It may block (on a ``threading.Event``) to delay its answer; each connection has a thread of its own.
Every request is counted when it arrives, before the handler is asked.
"""

from __future__ import annotations

import json
import socket
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

CUT = object()
CUT_BODY = object()


@dataclass
class Reply:
    """An answer of the model: ``tool_calls`` are pairs (name, arguments)."""

    content: str | Mapping[str, Any] | None = None
    tool_calls: Sequence[tuple[str, Mapping[str, Any] | str]] = ()
    prompt_tokens: int = 100
    completion_tokens: int = 20
    cached_tokens: int = 0
    reasoning_content: str | None = None
    model: str | None = None
    finish_reason: str | None = None
    usage: bool = True


@dataclass
class Status:
    """An answer that is an error."""

    code: int
    retry_after: float | str | None = None
    error_code: str | None = None
    message: str = "scripted failure"
    body: str | None = None
    content_type: str = "application/json"


@dataclass
class Request:
    """One HTTP request, as it arrived."""

    number: int
    path: str
    json: dict[str, Any]
    headers: dict[str, str]
    at: float = field(default_factory=time.time)

    @property
    def schema(self) -> str | None:
        """The name of the reply schema that was asked for."""
        return schema_name(self.json)


def schema_name(request: Mapping[str, Any]) -> str | None:
    """Return the name of the JSON schema that a request asks the reply to follow."""
    form = request.get("response_format") or {}
    name = (form.get("json_schema") or {}).get("name")
    return str(name) if name else None


def text_of(message: Mapping[str, Any]) -> str:
    """Return a message's text, whether it is a string or a list of parts."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", "") for part in content)


def last_message(request: Mapping[str, Any]) -> str:
    """Return the text of the newest message of a request."""
    return text_of(request["messages"][-1])


def system_prompt(request: Mapping[str, Any]) -> str:
    """Return all system prompts of a request in one text."""
    return "\n".join(text_of(item) for item in request["messages"] if item["role"] in ("system", "developer"))


def tool_results(request: Mapping[str, Any]) -> list[str]:
    """Return the texts of all tool results in a request, in order."""
    return [text_of(item) for item in request["messages"] if item["role"] == "tool"]


def in_turn(*answers: Any) -> Callable[[dict[str, Any]], Any]:
    """Make a handler that gives one answer after the other; an answer may be a function of the request."""
    lock, left = threading.Lock(), list(answers)

    def handler(request: dict[str, Any]) -> Any:
        with lock:
            if not left:
                return Status(418, message="the script of the test has no more answers")
            answer = left.pop(0)
        return answer(request) if callable(answer) else answer

    return handler


def by_schema(**answers: Any) -> Callable[[dict[str, Any]], Any]:
    """Make a handler that answers by the reply schema's name (lower case; ``text`` for none).

    An answer is one for every call, a list used one after the other, or a function of the request.
    """
    lock, used = threading.Lock(), defaultdict[str, int](int)

    def handler(request: dict[str, Any]) -> Any:
        name = (schema_name(request) or "text").lower()
        if name not in answers:
            return Status(418, message=f"the script of the test has no answer for schema {name!r}")
        answer = answers[name]
        if isinstance(answer, list):
            with lock:
                index, used[name] = used[name], used[name] + 1
            if index >= len(answer):
                return Status(418, message=f"the script of the test has no more answers for schema {name!r}")
            answer = answer[index]
        return answer(request) if callable(answer) else answer

    return handler


class OpenAIServer:
    """The server: ``url`` is the base URL to set, ``requests`` what arrived, ``count`` how many model calls."""

    def __init__(self, handler: Callable[[dict[str, Any]], Any], *, models: Sequence[str] = ("test-model",)) -> None:
        self.handler = handler
        self.models = list(models)
        self.requests: list[Request] = []
        self.lock = threading.Lock()
        self.arrived = threading.Condition(self.lock)
        self.failures: list[BaseException] = []
        self._sockets: set[socket.socket] = set()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="openai-server", daemon=True
        )

    @property
    def url(self) -> str:
        """The base URL, such as ``http://127.0.0.1:40123/v1``."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    @property
    def count(self) -> int:
        """How many model calls have arrived."""
        with self.lock:
            return len(self.requests)

    def connections(self) -> list[socket.socket]:
        """Return the connections that are open, as the server sees them."""
        with self.lock:
            return list(self._sockets)

    def wait_for(self, count: int, timeout: float = 20.0) -> None:
        """Wait until ``count`` model calls have arrived."""
        with self.arrived:
            if not self.arrived.wait_for(lambda: len(self.requests) >= count, timeout):
                raise TimeoutError(f"{len(self.requests)} of {count} calls arrived")

    def __enter__(self) -> OpenAIServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        with self.lock:
            sockets = list(self._sockets)
        for connection in sockets:
            _shut(connection)
        self._thread.join(10)
        if self.failures and kind is None:
            raise self.failures[0]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    owner: OpenAIServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that the client closed is no failure of the server."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        with self.server.owner.lock:
            self.server.owner._sockets.add(self.connection)

    def finish(self) -> None:
        with self.server.owner.lock:
            self.server.owner._sockets.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing on stderr."""

    def do_GET(self) -> None:
        owner = self.server.owner
        if self.path.rstrip("/").endswith("/models"):
            self._send(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in owner.models]})
        else:
            self._send(404, {"error": {"message": "not found"}})

    def do_POST(self) -> None:
        owner = self.server.owner
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = json.loads(body)
        with owner.arrived:
            owner.requests.append(
                Request(
                    len(owner.requests) + 1,
                    self.path,
                    request,
                    {name.lower(): value for name, value in self.headers.items()},
                )
            )
            owner.arrived.notify_all()
        try:
            answer = owner.handler(request)
        except BaseException as error:  # a failing handler must fail the test, not hang it
            owner.failures.append(error)
            answer = Status(400, message=f"the handler of the test failed: {error!r}")
        self._answer(request, answer)

    def _answer(self, request: dict[str, Any], answer: Any) -> None:
        if answer is CUT:
            _shut(self.connection)
            self.close_connection = True
        elif isinstance(answer, int):
            self._answer(request, Status(answer))
        elif isinstance(answer, Status):
            headers = {} if answer.retry_after is None else {"Retry-After": str(answer.retry_after)}
            error = {"message": answer.message, "type": "scripted", "code": answer.error_code}
            headers["Content-Type"] = answer.content_type
            self._send(answer.code, {"error": error} if answer.body is None else answer.body, headers)
        elif answer is CUT_BODY:
            self._send(200, _completion(request, Reply("half")), cut=True)
        elif isinstance(answer, Reply):
            self._send(200, _completion(request, answer))
        else:
            self._send(200, _completion(request, Reply(answer)))

    def _send(self, code: int, body: Any, headers: Mapping[str, str] | None = None, *, cut: bool = False) -> None:
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        self.wfile.flush()
        if cut:
            _shut(self.connection)
            self.close_connection = True


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def _completion(request: Mapping[str, Any], reply: Reply) -> dict[str, Any]:
    content = reply.content if isinstance(reply.content, str | None) else json.dumps(reply.content)
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if reply.reasoning_content is not None:
        message["reasoning_content"] = reply.reasoning_content
    if reply.tool_calls:
        message["tool_calls"] = [
            {
                "id": f"call_{uuid.uuid4().hex[:12]}",
                "type": "function",
                "function": {"name": name, "arguments": given if isinstance(given, str) else json.dumps(given)},
            }
            for name, given in reply.tool_calls
        ]
    finish = reply.finish_reason or ("tool_calls" if reply.tool_calls else "stop")
    completion: dict[str, Any] = {
        "id": f"chatcmpl-{uuid.uuid4().hex[:12]}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": reply.model or request.get("model"),
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
    }
    if reply.usage:
        completion["usage"] = {
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "total_tokens": reply.prompt_tokens + reply.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": reply.cached_tokens},
        }
    return completion
