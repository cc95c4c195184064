"""The application: its addresses, and who may use them.

Here: from a request to a call of the warehouse and back. Not here: protection against odd requests
(`warehouse.serve.guard`), bytes of an answer (`warehouse.serve.formats`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from warehouse import gateway, releases
from warehouse.dictionary import load_dictionary, range_text
from warehouse.errors import AccessError, QueryBusy, QueryRefused, RanvierError, ReleaseError
from warehouse.gateway import Answer
from warehouse.home import PROJECT_NAME, SITE_CODE, Home
from warehouse.policy import load_policy
from warehouse.serve.formats import MEDIA_TYPES, encode, from_accept
from warehouse.serve.guard import Application, Guard
from warehouse.serve.limits import Limits, TooMany
from warehouse.users import Doorkeeper, User
from warehouse.workers import Pool, Stop

log = logging.getLogger(__name__)

PAGE = Path(__file__).parent / "page"
STALL_SECONDS = 20.0
"""An asker who does not take the next rows for this long is let go, so that the process is free for others."""
WRONG_TOKENS_PER_MINUTE = 30
"""From one address. A token of 256 bits cannot be guessed; this keeps argon2 from being kept busy."""
THREADS = 128
"""Requests that are worked on at once; most of them wait for a process."""

Tier = Literal["open", "registered", "controlled", "steward", "site"]
RELEASE = r"^\d{4}-\d{2}-\d{2}\.[1-9]\d{0,5}$"


class Target(BaseModel):
    """Which tier of which release."""

    model_config = ConfigDict(extra="forbid")

    tier: Tier = "open"
    site: str | None = Field(default=None, pattern=SITE_CODE.pattern, description="For the tier site.")
    project: str | None = Field(default=None, pattern=PROJECT_NAME.pattern, description="For the tier controlled.")
    release: str | None = Field(default=None, pattern=RELEASE, description="A version; the current one without it.")


class Question(Target):
    """One SELECT."""

    sql: str = Field(min_length=1, max_length=100_000, examples=["select * from mart_cohort_catalogue"])
    format: Literal["arrow", "json", "csv", "parquet"] | None = Field(
        default=None, description="Without it the Accept header decides; json when that says nothing."
    )
    limit: int | None = Field(default=None, ge=1, le=2**53, description="No more rows than this.")


class ErrorBody(BaseModel):
    """Every error: one sentence that says what to do."""

    error: str


class Column(BaseModel):
    name: str
    type: str
    description: str | None = None


class TableInfo(BaseModel):
    name: str
    description: str | None = None
    columns: list[Column]


class Tables(BaseModel):
    tier: Tier
    release: str
    tables: list[TableInfo]


class VariableInfo(BaseModel):
    name: str
    table: str
    type: str
    unit: str | None
    definition: str
    source: str
    allowed: str
    codes: dict[str, str] | None
    tier: str
    """The least trusted tier that may see it at row level."""


class ReleaseInfo(BaseModel):
    version: str
    is_current: bool
    published: datetime | None


class Health(BaseModel):
    status: Literal["ok"]


@dataclass(frozen=True)
class Asker:
    """Who sent a request: somebody with a token, or an address."""

    name: str
    grants: tuple[User, ...]
    is_known: bool


class Desk:
    """What the addresses share: the home, the doorkeeper, the processes and the limits."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.rules = home.network().gateway
        self.door = Doorkeeper(home)
        self.limits = Limits()
        self.pool = Pool(per_file=self.rules.processes_per_file, total=self.rules.processes)
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="query")

    def asker(self, request: Request) -> Asker:
        """Who asks. Raises HTTPException (401) for a token that is not valid, TooMany for too many requests."""
        address = request.client.host if request.client else "unknown"
        header = request.headers.get("authorization")
        if header is None:
            self.limits.count(f"address {address}", self.rules.requests_per_minute / 5)
            return Asker(f"anonymous@{address}", (), False)
        scheme, _, token = header.partition(" ")
        try:
            if scheme.lower() != "bearer":
                raise AccessError("The Authorization header must be: Bearer TOKEN")
            name, grants = self.door.grants(token)
        except AccessError as error:
            self.limits.count(f"wrong {address}", WRONG_TOKENS_PER_MINUTE)
            raise HTTPException(401, str(error), {"WWW-Authenticate": "Bearer"}) from error
        self.limits.count(f"user {name}", self.rules.requests_per_minute)
        return Asker(name, tuple(grants), True)

    def may_ask(self, asker: Asker, target: Target) -> None:
        """Raise HTTPException (401, 403) unless the asker may see the tier."""
        if target.tier == "open" and (asker.is_known or not self.rules.open_needs_token):
            return
        if not asker.is_known:
            raise HTTPException(
                401, f"The tier {target.tier} needs a token; send it as: Authorization: Bearer TOKEN",
                {"WWW-Authenticate": "Bearer"},
            )  # fmt: skip
        wanted = (target.tier, target.site, target.project)
        if not any(grant.target == wanted for grant in asker.grants):
            raise HTTPException(403, f"You have no grant for this on the tier {target.tier}; ask the data manager")

    def ask(self, request: Request, question: Question, format: str, stop: Stop) -> Response | Streamed:
        """Answer a question, in a thread; a short answer comes whole."""
        asker = self.asker(request)
        self.may_ask(asker, question)
        self.limits.begin(asker.name, self.rules.queries_at_once)
        is_streamed = False
        try:
            answer = gateway.query(
                self.home, question.sql, tier=question.tier, site=question.site, project=question.project,
                release=question.release, user=asker.name, seconds=self.rules.seconds, limit=question.limit,
                most_rows=self.rules.rows, pool=self.pool, stop=stop,
            )  # fmt: skip
            pieces = encode(answer, format)
            headers = _headers(answer, question, format)
            if answer.is_complete:
                return Response(b"".join(pieces), media_type=MEDIA_TYPES[format], headers=headers)
            is_streamed = True
            return Streamed(answer, pieces, headers, asker.name)
        finally:
            if not is_streamed:
                self.limits.end(asker.name)

    async def stream(self, streamed: Streamed) -> AsyncIterator[bytes]:
        """The pieces of an answer; its process is let go when the asker is gone or does not read on."""
        loop = asyncio.get_running_loop()
        try:
            while (piece := await loop.run_in_executor(self.threads, next, streamed.pieces, None)) is not None:
                stalled = loop.call_later(STALL_SECONDS, self.threads.submit, streamed.answer.close)
                yield piece
                stalled.cancel()
        finally:
            self.limits.end(streamed.asker)
            if not streamed.answer.is_complete:
                self.threads.submit(streamed.answer.close)

    def is_current(self, path: Path) -> bool:
        return path.relative_to(self.home.releases).parts[0] == releases.current_version(self.home)

    async def tidy(self) -> None:
        """End processes nobody needs, every few seconds."""
        while True:
            await asyncio.sleep(2)
            await asyncio.get_running_loop().run_in_executor(self.threads, self.pool.tidy, self.is_current)


@dataclass(frozen=True)
class Streamed:
    """A long answer on its way."""

    answer: Answer
    pieces: Iterator[bytes]
    headers: dict[str, str]
    asker: str


def _headers(answer: Answer, question: Question, format: str) -> dict[str, str]:
    headers = {"ranvier-release": answer.release, "ranvier-tier": question.tier}
    columns = json.dumps(answer.columns)
    if len(columns) < 4000:
        headers["ranvier-columns"] = columns
    if format in ("csv", "parquet", "arrow"):
        headers["content-disposition"] = f'attachment; filename="answer-{answer.release}.{format}"'
    return headers


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody, "description": "The statement or a field is not accepted."},
    401: {"model": ErrorBody, "description": "A token is needed, or it is not valid."},
    403: {"model": ErrorBody, "description": "The person has no grant for this tier."},
    404: {"model": ErrorBody, "description": "There is no such release or address."},
    406: {"model": ErrorBody, "description": "None of the formats asked for is offered."},
    408: {"model": ErrorBody, "description": "The request came too slowly."},
    413: {"model": ErrorBody, "description": "The request is too large."},
    422: {"model": ErrorBody, "description": "A field is missing, of the wrong type or unknown."},
    429: {"model": ErrorBody, "description": "Too many requests; the header Retry-After says how long to wait."},
    503: {"model": ErrorBody, "description": "No process is free; the header Retry-After says how long to wait."},
}


def make_app(home: Home) -> Application:
    """The application on a home, inside its guard. Raises HomeError when there is no home."""
    desk = Desk(home)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tidying = asyncio.create_task(desk.tidy())
        yield
        tidying.cancel()
        desk.pool.close()
        desk.threads.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(
        title=f"Ranvier: {home.network().name}",
        description="SQL on the releases of the warehouse, one access tier at a time.",
        version="1",
        docs_url=None,
        redoc_url=None,
        responses=ERRORS,
        lifespan=lifespan,
    )
    _add_errors(app)
    _add_sql(app, desk)
    _add_definitions(app, desk)
    _add_pages(app)
    return Guard(app)


def _add_sql(app: FastAPI, desk: Desk) -> None:
    @app.post(
        "/v1/sql",
        summary="Ask one SELECT",
        response_class=Response,
        responses={
            200: {
                "description": "The rows. The headers Ranvier-Release and Ranvier-Columns say where they come from.",
                "content": {media.split(";")[0]: {"schema": {}} for media in MEDIA_TYPES.values()},
            }
        },
    )
    async def sql(request: Request, question: Question) -> Response:
        format = question.format or from_accept(request.headers.get("accept") or "*/*")
        if format is None:
            raise HTTPException(406, f"The formats are {', '.join(MEDIA_TYPES)}; ask for one of their media types")
        stop = Stop()
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(desk.threads, desk.ask, request, question, format, stop)
        gone = asyncio.ensure_future(_until_gone(request))
        try:
            waited: set[asyncio.Future[Any]] = {work, gone}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                stop.set()
            answer = await work
        finally:
            if not work.done():  # the server itself is stopping
                stop.set()
            gone.cancel()
        if isinstance(answer, Streamed):
            body = desk.stream(answer)
            return StreamingResponse(body, media_type=MEDIA_TYPES[format], headers=answer.headers)
        return answer


def _add_definitions(app: FastAPI, desk: Desk) -> None:
    @app.get("/v1/tables", summary="Tables and columns of a tier")
    def tables(request: Request, target: Annotated[Target, Query()]) -> Tables:
        asker = desk.asker(request)
        desk.may_ask(asker, target)
        version, held = gateway.tables(
            desk.home, desk.pool, tier=target.tier, site=target.site, project=target.project, release=target.release
        )
        known = load_policy().tiers.get(target.tier, {})
        found = []
        for name, columns in held.items():
            described = {column.name: column.description for column in known[name].columns} if name in known else {}
            infos = [Column(name=column, type=kind, description=described.get(column)) for column, kind in columns]
            description = known[name].description if name in known else None
            found.append(TableInfo(name=name, description=description, columns=infos))
        return Tables(tier=target.tier, release=version, tables=found)

    @app.get("/v1/dictionary", summary="Definitions of the variables")
    def dictionary(
        request: Request,
        name: Annotated[str | None, Query(max_length=100, description="One variable; all of them without it.")] = None,
    ) -> list[VariableInfo]:
        desk.asker(request)
        found = [
            VariableInfo(
                name=v.name, table=entity.name, type=v.type, unit=v.unit, definition=v.definition, source=v.source,
                allowed=" ".join(v.codes) if v.codes else range_text(v), codes=v.codes, tier=v.tier,
            )
            for entity in load_dictionary().entities.values() for v in entity.variables if name in (None, v.name)
        ]  # fmt: skip
        if not found:
            raise HTTPException(404, "The dictionary has no such variable; list them without a name")
        return found

    @app.get("/v1/releases", summary="Releases of the warehouse")
    def list_releases(request: Request) -> list[ReleaseInfo]:
        desk.asker(request)
        current = releases.current_version(desk.home)
        return [
            ReleaseInfo(version=version, is_current=version == current, published=_published(desk.home, version))
            for version in reversed(releases.list_releases(desk.home))
        ]

    @app.get("/health", summary="Whether the gateway answers")
    def health() -> Health:
        return Health(status="ok")


def _published(home: Home, version: str) -> datetime | None:
    with suppress(OSError):
        return datetime.fromtimestamp((home.releases / version / "manifest.json").stat().st_mtime, UTC)
    return None


def _add_pages(app: FastAPI) -> None:
    files = {
        "/": ("index.html", "text/html; charset=utf-8"),
        "/docs": ("docs.html", "text/html; charset=utf-8"),
        "/page/app.js": ("app.js", "text/javascript; charset=utf-8"),
        "/page/docs.js": ("docs.js", "text/javascript; charset=utf-8"),
        "/page/style.css": ("style.css", "text/css; charset=utf-8"),
    }
    for address, (name, media) in files.items():
        app.add_route(address, _page(PAGE / name, media), methods=["GET"], include_in_schema=False)


def _page(path: Path, media: str) -> Callable[[Request], Awaitable[Response]]:
    async def page(_: Request) -> Response:
        return FileResponse(path, media_type=media)

    return page


def _error(status: int, text: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": text}, status, headers)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        # What was sent is not repeated.
        field = ".".join(str(part) for part in first["loc"][1:] if isinstance(part, str))[:60] or "the request"
        field = re.sub(r"[^\w.-]", "?", field) if field != "the request" else field
        return _error(422, f"{field}: {first['msg']}; see /docs")

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        texts = {
            404: "There is nothing at this address; see /docs",
            405: "This address takes another method; see /docs",
        }
        is_ours = error.detail not in ("Not Found", "Method Not Allowed")
        text = error.detail if is_ours else texts.get(error.status_code, error.detail)
        return _error(error.status_code, text, dict(error.headers or {}))

    @app.exception_handler(TooMany)
    async def too_many(_: Request, error: TooMany) -> JSONResponse:
        return _error(429, str(error), {"Retry-After": str(error.retry_seconds)})

    @app.exception_handler(QueryBusy)
    async def busy(_: Request, error: QueryBusy) -> JSONResponse:
        return _error(503, str(error), {"Retry-After": str(error.retry_seconds)})

    @app.exception_handler(QueryRefused)
    async def refused(_: Request, error: QueryRefused) -> JSONResponse:
        return _error(400, str(error))

    @app.exception_handler(ReleaseError)
    async def no_release(_: Request, error: ReleaseError) -> JSONResponse:
        return _error(404, str(error))

    @app.exception_handler(RanvierError)
    async def failed(_: Request, error: RanvierError) -> JSONResponse:
        log.error("a request failed: %s", type(error).__name__)
        return _error(503, "The gateway cannot answer now; tell the data manager", {"Retry-After": "60"})
