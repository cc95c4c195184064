"""What every request passes through before the application sees it, and every response on its way out.

Here: headers that may mean two things, size and slowness of requests, security headers, errors without internals. Not
here: who asks and what (`warehouse.serve.app`).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

BODY_BYTES = 512 << 10
"""A statement has at most 100,000 characters."""
BODY_SECONDS = 15.0
HEADER_BYTES = 32 << 10
HEADER_SECONDS = 10.0
ONCE = (b"host", b"authorization", b"content-length", b"transfer-encoding", b"content-type")
"""Headers of which a second one is read differently by different programs on the way."""
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}


class Problem(Exception):
    """A request that is answered with one sentence."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        has_begun = False

        async def send_guarded(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                headers = HEADERS | ({"strict-transport-security": "max-age=31536000"} if _is_https(scope) else {})
                given = {name.lower() for name, _ in message["headers"]}
                more = [(n.encode(), v.encode()) for n, v in headers.items() if n.encode() not in given]
                message["headers"] = [*message["headers"], *more]
            await send(message)

        try:
            _check_head(scope)
            body = await _body(scope, receive)
        except Problem as problem:
            await _refuse(send_guarded, problem)
            return
        was_read = False

        async def replay() -> Message:
            nonlocal was_read
            if was_read:
                return await receive()
            was_read = True
            return {"type": "http.request", "body": body, "more_body": False}

        try:
            await self._app(scope, replay, send_guarded)
        except Exception as error:
            # The text of an error may hold what was asked about; its kind and place do not.
            place = error.__traceback__
            while place is not None and place.tb_next is not None:
                place = place.tb_next
            where = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place else "?"
            log.error("a request failed: %s at %s", type(error).__name__, where)
            if not has_begun:
                text = "The gateway could not answer; tell the data manager what you asked and when"
                await _refuse(send_guarded, Problem(500, text))
            # Else the response stays unfinished, and the server breaks the connection: no asker takes it for whole.


def _is_https(scope: MutableMapping[str, Any]) -> bool:
    return bool(scope.get("scheme") == "https")


def _check_head(scope: MutableMapping[str, Any]) -> None:
    names = [name for name, _ in scope["headers"]]
    for name in ONCE:
        if names.count(name) > 1:
            raise Problem(400, f"The header {name.decode()} was sent twice; send it once")
    if b"content-length" in names and b"transfer-encoding" in names:
        raise Problem(400, "The request says its length in two ways; send one of them")
    path = scope["path"]
    if any(ord(character) < 32 for character in path) or "\\" in path or ".." in path.split("/"):
        raise Problem(404, "There is nothing at this address; see /docs")


async def _body(scope: MutableMapping[str, Any], receive: Receive) -> bytes:
    too_large = Problem(413, f"The request is larger than {BODY_BYTES >> 10} kB; send a shorter statement")
    for name, value in scope["headers"]:
        if name == b"content-length" and (not value.isdigit() or int(value) > BODY_BYTES):
            raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise Problem(400, "The request was not sent to its end")
                body += message.get("body", b"")
                if len(body) > BODY_BYTES:
                    raise too_large
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        raise Problem(408, "The request took too long to arrive; send it again") from None


async def _refuse(send: Send, problem: Problem) -> None:
    content = json.dumps({"error": str(problem)}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


class Connection(HttpToolsProtocol):
    """uvicorn's connection, which gives up on a peer that sends its headers too slowly or without end."""

    _timer: asyncio.TimerHandle | None = None
    _waiting_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._have_headers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._timer is None and (self.cycle is None or self.cycle.response_complete):
            self._wait_for_headers()
        self._waiting_bytes += len(data)
        super().data_received(data)
        if self._timer is not None and self._waiting_bytes > HEADER_BYTES:
            self.transport.write(
                b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
            self.transport.close()

    def on_headers_complete(self) -> None:
        self._have_headers()
        super().on_headers_complete()

    def _wait_for_headers(self) -> None:
        self._waiting_bytes = 0
        self._timer = self.loop.call_later(HEADER_SECONDS, self.transport.abort)

    def _have_headers(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
