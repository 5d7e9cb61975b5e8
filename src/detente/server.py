"""The classifier as an HTTP service (extra ``serve``): ``detente serve``.

The event loop reads, checks and refuses; threads of the :class:`~detente.queueing.Batcher` compute.
What is refused is refused before its body is read where that can be known, so that a full server
stays quick in saying so. Texts are neither logged, unless that is asked for, nor kept.
"""

from __future__ import annotations

import asyncio
import gc
import hmac
import json
import logging
import math
import os
import socket
import sys
import time
import traceback
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from detente import __version__, wire
from detente.classifier import Classifier, Prediction, statements_in
from detente.errors import (
    BusyError,
    DetenteError,
    InputError,
    LanguageWarning,
    MissingExtraError,
    TruncationWarning,
)
from detente.openapi import document, page
from detente.queueing import Batcher
from detente.runtimes import Runtime, RuntimeName
from detente.runtimes.onnx_runtime import cores
from detente.statement import Statement

try:
    import prometheus_client as prometheus
    import uvicorn
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.middleware.cors import CORSMiddleware
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import HTMLResponse, JSONResponse, Response
    from starlette.routing import Route
except ImportError as error:
    raise MissingExtraError.of("detente serve", "serve") from error

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN_VARIABLE: Final = "DETENTE_TOKEN"
ROUTES: Final = ("/predict", "/read", "/health", "/ready", "/metrics", "/openapi.json", "/docs")
CLIENT_GONE: Final = 499
"""What metrics and logs say where a client did not wait for its answer; nobody receives it."""

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128)
CHARACTERS_A_STATEMENT: Final = 200
"""Of a document, for the room that it is given in the queue before it has been read."""

COLLECT: Final = (2000, 10, 1000)
"""After how many new objects the young ones are collected, and how many times before the old."""

SWITCH: Final = 0.0005
"""Seconds after which a thread that computes lets the event loop go on; Python's own are ten times
as many, and a request that is refused pays them several times over."""

_log = logging.getLogger("detente.server")
Result = TypeVar("Result")


class Model(Protocol):
    """What a server needs of a classifier."""

    name: str
    runtime: Runtime

    def predict_batch(self, statements: Sequence[Statement]) -> list[Prediction]:
        """See :meth:`detente.classifier.Classifier.predict_batch`."""
        ...


@dataclass(frozen=True, slots=True)
class Settings:
    """How a server behaves.

    Attributes:
        limits: How much one request may ask for.
        threads: Rounds of statements that are computed at a time; ``None``: with ONNX one for
            each core that the process may use, with torch one.
        waiting: Statements admitted and not answered yet; more are turned away.
        together: Statements of a round.
        linger: Seconds that an idle model waits for more statements after the first.
        timeout: Seconds from a request's header to its answer.
        held_bytes: Bytes of bodies that are read or answered at a time.
        connections: Connections at a time, idle ones included; below the 1,024 files that a
            process may usually open.
        token: What clients have to send as ``Authorization: Bearer TOKEN``; ``None``: nothing.
        cors_origins: Web pages from elsewhere that may call, such as ``https://example.org``.
        log_texts: Log the texts of requests too.

    Raises:
        InputError: A number is out of its range, or a request within the limits would never fit.
    """

    limits: wire.Limits = field(default_factory=wire.Limits)
    threads: int | None = None
    waiting: int = 512
    together: int = 64
    linger: float = 0.002
    timeout: float = 30.0
    held_bytes: int = 64 << 20
    connections: int = 960
    token: str | None = None
    cors_origins: tuple[str, ...] = ()
    log_texts: bool = False

    def __post_init__(self) -> None:
        """Checks that the numbers go together."""
        numbers = asdict(self.limits) | {
            name: getattr(self, name)
            for name in ("threads", "waiting", "together", "timeout", "held_bytes", "connections")
        }
        for name, number in numbers.items():
            if number is not None and number <= 0:
                raise InputError(f"{name} is not positive", got=number)
        for small, large, what in (
            (self.limits.statements, self.waiting, "statements of a request, and of the queue"),
            (self.limits.body_bytes, self.held_bytes, "bytes of a body, and of all bodies"),
        ):
            if small > large:
                raise InputError(
                    f"the largest request would never be admitted: {what}",
                    got=(small, large),
                    expected="the first at most as large as the second",
                )
        if self.token is not None and not self.token.strip():
            raise InputError("the token is empty", expected="a token, or none at all")


class _Metrics:
    """What Prometheus reads; a registry of its own, for several servers in one process."""

    def __init__(self, waiting: Callable[[], float]) -> None:
        self.registry = prometheus.CollectorRegistry()
        self.requests = prometheus.Counter(
            "detente_requests", "Requests.", ("route", "status"), registry=self.registry
        )
        self.seconds = prometheus.Histogram(
            "detente_request_seconds",
            "Seconds from a request's header to the end of its answer.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.round = prometheus.Histogram(
            "detente_round_sentences",
            "Sentences computed together.",
            buckets=SIZES,
            registry=self.registry,
        )
        self.round_seconds = prometheus.Counter(
            "detente_model_seconds", "Seconds that threads computed.", registry=self.registry
        )
        self.sentences = prometheus.Counter(
            "detente_sentences", "Sentences computed.", registry=self.registry
        )
        prometheus.Gauge(
            "detente_waiting_sentences",
            "Sentences admitted and not answered yet.",
            registry=self.registry,
        ).set_function(waiting)
        prometheus.ProcessCollector(registry=self.registry)

    def observe_round(self, size: int, seconds: float) -> None:
        self.round.observe(size)
        self.sentences.inc(size)
        self.round_seconds.inc(seconds)


class _Refusal(Exception):
    """A request that HTTP itself has a status for."""

    def __init__(
        self, status: int, error: DetenteError, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(str(error))
        self.status, self.error, self.headers = status, error, headers


class _Service:
    """The routes, over one model."""

    def __init__(self, model: Model, settings: Settings) -> None:
        self._model, self._settings = model, settings
        self._batcher: Batcher | None = None
        self._held = 0
        self._finder = ThreadPoolExecutor(1, thread_name_prefix="detente-find")
        self.metrics = _Metrics(lambda: self._batcher.waiting if self._batcher else 0)
        told = document(settings.limits, needs_token=settings.token is not None)
        self._document, self._page = json.dumps(told), page(told)

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        settings = self._settings
        self._batcher = Batcher(
            self._model.predict_batch,
            threads=settings.threads or _threads(self._model.runtime),
            most_waiting=settings.waiting,
            most_together=settings.together,
            linger=settings.linger,
            observe=self.metrics.observe_round,
        )
        try:
            yield
        finally:
            self._batcher.close()
            self._finder.shutdown(wait=False, cancel_futures=True)
            _log.info("stopped")

    def routes(self) -> list[Route]:
        return [
            Route("/predict", partial(self._answer, self._predict), methods=["POST"]),
            Route("/read", partial(self._answer, self._read), methods=["POST"]),
            Route("/health", self._health),
            Route("/ready", self._ready),
            Route("/metrics", self._show_metrics),
            Route("/openapi.json", self._openapi),
            Route("/docs", self._docs),
        ]

    async def _predict(self, body: dict[str, Any], told: dict[str, Any]) -> object:
        question = wire.parse_question(body, self._settings.limits)
        told["sentences"] = len(question.statements)
        if self._settings.log_texts:
            told["texts"] = [each.text for each in question.statements]
        with self._queue.admitted(len(question.statements)):
            predictions = await self._queue.predict(question.statements)
        return question.answer(predictions, self._model.name)

    async def _read(self, body: dict[str, Any], told: dict[str, Any]) -> object:
        limits = self._settings.limits
        asked = wire.parse_document(body, limits)
        if self._settings.log_texts:
            told["texts"] = [asked.text]
        about = min(1 + len(asked.text) // CHARACTERS_A_STATEMENT, limits.statements)
        with self._queue.admitted(about):
            placed = await asyncio.get_running_loop().run_in_executor(
                self._finder, self._find, asked
            )
            told["sentences"] = len(placed)
            with self._queue.admitted(max(len(placed) - about, 0)):
                predictions = await self._queue.predict([each for _, each in placed])
        found = [
            replace(prediction, span=span)
            for prediction, (span, _) in zip(predictions, placed, strict=True)
        ]
        return wire.rows_answer(found, self._model.name)

    def _find(self, asked: wire.Document) -> list[tuple[tuple[int, int], Statement]]:
        most = self._settings.limits.statements
        # One more than may be: the rest of a document that names too many is not read.
        found = statements_in(asked.text, asked.source, language=asked.language)
        placed = list(islice(found, most + 1))
        wire.check_found([each for _, each in placed], self._settings.limits)
        return placed

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok", "version": __version__})

    async def _ready(self, request: Request) -> Response:
        ready = self._batcher is not None and self._batcher.alive
        told = {"ready": ready, "model": self._model.name, "waiting": self._queue.waiting}
        return JSONResponse(told, 200 if ready else 503)

    async def _show_metrics(self, request: Request) -> Response:
        try:
            self._check_token(request)
        except _Refusal as refusal:
            return _problem(refusal.status, refusal.error, refusal.headers)
        content = prometheus.generate_latest(self.metrics.registry)
        return Response(content, media_type=prometheus.CONTENT_TYPE_PLAIN_0_0_4)

    async def _openapi(self, request: Request) -> Response:
        return Response(self._document, media_type="application/json")

    async def _docs(self, request: Request) -> Response:
        return HTMLResponse(self._page)

    @property
    def _queue(self) -> Batcher:
        assert self._batcher is not None, "the lifespan has begun"
        return self._batcher

    async def _answer(
        self,
        work: Callable[[dict[str, Any], dict[str, Any]], Awaitable[object]],
        request: Request,
    ) -> Response:
        """Answers a POST: what may go wrong on the way becomes a status and a problem."""
        whole = False
        try:
            self._check_token(request)
            with self._room_for(request) as most:
                async with asyncio.timeout(self._settings.timeout):
                    content = await _read_body(request, most)
                    whole = True
                    body = _parse(content)
                    found = await _unless_gone(request, work(body, request.state.told))
            return Response(_dump(found), media_type="application/json")
        except _Refusal as refusal:
            return _problem(refusal.status, refusal.error, refusal.headers)
        except BusyError as error:
            return _problem(503, error, {"Retry-After": str(self._queue.retry_after)})
        except InputError as error:
            return _problem(422, error)
        except TimeoutError:
            status = 504 if whole else 408
            what = "no answer in time" if whole else "the body did not come in time"
            expected = f"at most {self._settings.timeout:g} seconds"
            return _problem(status, DetenteError(what, expected=expected))
        except ClientDisconnect:
            return _problem(CLIENT_GONE, DetenteError("the client has gone"))
        except Exception as error:
            _log.error("failed", exc_info=error)
            return _problem(500, DetenteError("the server failed", fix="Its log says where."))

    def _check_token(self, request: Request) -> None:
        token = self._settings.token
        if token is None:
            return
        sent = request.headers.get("authorization", "").encode("latin-1")
        if not hmac.compare_digest(sent, f"Bearer {token}".encode()):
            raise _Refusal(
                401,
                InputError("no token, or a wrong one", expected="Authorization: Bearer TOKEN"),
                {"WWW-Authenticate": "Bearer"},
            )

    @contextmanager
    def _room_for(self, request: Request) -> Iterator[int]:
        """Checks a request by its header, and keeps room for its body: so many bytes."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            # A web page can send other types to a server on loopback without being asked.
            raise _Refusal(
                415,
                InputError(
                    "the body is not declared as JSON",
                    got=kind,
                    expected="Content-Type: application/json",
                ),
            )
        most = self._settings.limits.body_bytes
        length = request.headers.get("content-length")
        size = most if length is None else int(length)
        if size > most:
            raise _too_large(most)
        self._queue.check_room()
        if self._held + size > self._settings.held_bytes:
            raise BusyError("too many bodies at a time", fix="Try again later.")
        self._held += size
        try:
            yield most
        finally:
            self._held -= size


class _Watch:
    """Counts, times and logs every request.

    Args:
        app: What answers.
        metrics: Where to count.
    """

    def __init__(self, app: ASGIApp, metrics: _Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin = time.perf_counter()
        status = CLIENT_GONE

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        told: dict[str, Any] = {}
        scope.setdefault("state", {})["told"] = told
        try:
            await self._app(scope, receive, watched)
        finally:
            seconds = time.perf_counter() - begin
            # A label for every path that somebody tries would grow without end.
            route = scope["path"] if scope["path"] in ROUTES else "other"
            self._metrics.requests.labels(route, status).inc()
            self._metrics.seconds.labels(route).observe(seconds)
            fields = {"method": scope["method"], "route": route, "status": status}
            fields["ms"] = round(1000 * seconds, 1)
            _log.info("request", extra={"fields": fields | told})


class JsonLines(logging.Formatter):
    """Log records as one JSON object a line.

    Of an exception it gives the type and the places, not the message: that may hold a text.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Returns the record as JSON."""
        told: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1]:
            told["exception"] = type(record.exc_info[1]).__name__
            frames = traceback.extract_tb(record.exc_info[2])
            told["places"] = [f"{f.filename}:{f.lineno} {f.name}" for f in frames]
        return json.dumps(told, ensure_ascii=False, default=str)


def make_app(model: Model, settings: Settings) -> Starlette:
    """Returns the service as an ASGI application.

    Args:
        model: A :class:`~detente.classifier.Classifier`, or what answers like one.
        settings: How it behaves.
    """
    service = _Service(model, settings)
    middleware = [Middleware(_Watch, metrics=service.metrics)]
    if settings.cors_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.cors_origins,
                allow_methods=["GET", "POST"],
                allow_headers=["Authorization", "Content-Type"],
            )
        )
    return Starlette(
        routes=service.routes(),
        middleware=middleware,
        exception_handlers={HTTPException: _no_such_route},
        lifespan=service.lifespan,
    )


def make_server(app: Starlette, settings: Settings) -> uvicorn.Server:
    """Returns the HTTP server of an application; it stops when its requests are answered."""
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=settings.connections,
        timeout_graceful_shutdown=math.ceil(settings.timeout),
    )
    return uvicorn.Server(config)


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that listens; with port 0, on a port that is free.

    Raises:
        InputError: The address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise InputError(
            f"cannot listen ({error})", where=f"{host}:{port}", fix="Choose another --port."
        ) from error


def serve(
    model: str,
    settings: Settings,
    *,
    runtime: RuntimeName = "auto",
    host: str = "127.0.0.1",
    port: int = 8000,
) -> None:
    """Loads a classifier and serves it until SIGTERM or SIGINT.

    Args:
        model: As for :meth:`Classifier.load`.
        settings: How the server behaves. With ONNX each of its threads computes on one core.
        runtime: As for :meth:`Classifier.load`.
        host: The address to listen on.
        port: The port; 0 takes a free one, which the log names.

    Raises:
        DetenteError: The model cannot be loaded, or the address cannot be had.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]
    # Answers say how many tokens were cut, and the log holds nothing but JSON.
    for category in (TruncationWarning, LanguageWarning):
        warnings.simplefilter("ignore", category)
    classifier = Classifier.load(model, runtime=runtime, threads=1)
    classifier.predict("We met today.", "France")
    listening = listen(host, port)
    # What has been loaded stays: without this, collections walk over all of it again and again.
    gc.freeze()
    # Nor over all requests that wait, which holds up those that could be refused at once: what a
    # request leaves behind is young.
    gc.set_threshold(*COLLECT)
    sys.setswitchinterval(SWITCH)
    address = listening.getsockname()
    fields = {"host": address[0], "port": address[1], "model": classifier.name}
    _log.info("listening", extra={"fields": fields})
    if settings.token is None and host not in ("127.0.0.1", "::1", "localhost"):
        _log.warning("open to the network without a token")
    make_server(make_app(classifier, settings), settings).run(sockets=[listening])


def read_token(path: Path | None) -> str | None:
    """Returns the token of a file, or of the environment variable :data:`TOKEN_VARIABLE`.

    Raises:
        InputError: The file cannot be read, or the token is empty.
    """
    if path is None:
        return os.environ.get(TOKEN_VARIABLE)
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read ({error})", where=str(path)) from error


def _threads(runtime: Runtime) -> int:
    return cores() if runtime.name == "onnx" else 1


async def _no_such_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    told = InputError(error.detail, where=f"{request.method} {request.url.path[:80]}")
    return _problem(error.status_code, told, error.headers)


async def _read_body(request: Request, most: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise _too_large(most)
    return bytes(body)


def _too_large(most: int) -> _Refusal:
    told = InputError(
        "the body is too large", expected=f"at most {most} bytes", fix="Send several requests."
    )
    return _Refusal(413, told)


def _parse(content: bytes) -> dict[str, Any]:
    try:
        return wire.parse_json(content)
    except InputError as error:
        raise _Refusal(400, error) from None


async def _unless_gone(request: Request, work: Awaitable[Result]) -> Result:
    """Returns the result of work, which is cancelled if the client goes away before.

    Raises:
        ClientDisconnect: It did.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        # What waits has left the queue before anybody hears that it will not be computed.
        await asyncio.wait((task, gone))


def _dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _problem(
    status: int, error: DetenteError, headers: Mapping[str, str] | None = None
) -> Response:
    content = json.dumps(wire.problem(status, error))
    return Response(content, status, headers, media_type="application/problem+json")
