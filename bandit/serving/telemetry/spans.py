"""Traces by OpenTelemetry (the extra `otel`): a span for each request, below it what its micro-batch did for it.

    POST /v1/experiments/{e}/recommendations     the request; its parent is the caller's `traceparent`
      wait       for a micro-batch
      decide     all decisions of that micro-batch
      append     until the store has it, however often it is asked
        store    one try

Where it is off none of this is loaded. Where it is on, requests go the long way, through ASGI. How much is sampled and
where it is sent is said in OpenTelemetry's own OTEL_* variables.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from opentelemetry import context, trace
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation import tracecontext
from starlette.types import Scope

from bandit import __version__
from bandit.store.protocol import Batch, Reply, Store

_PARENT = tracecontext.TraceContextTextMapPropagator()
CLOSING = 2.0  # seconds
CALLS = 1024  # appends whose tries are kept until they are told


class Spans:
    """Makes spans. Lives on the event loop.

    Args:
        tracer: of OpenTelemetry.
        close: ends the export.
    """

    def __init__(self, tracer: Tracer, close: Callable[[], None] = lambda: None) -> None:
        self._tracer, self.close = tracer, close
        self._calls: dict[tuple[str, int], list[tuple[float, float]]] = {}

    def watch(self, store: Any) -> None:
        """Take note of each try to append to a store."""
        ask: Callable[[str, Batch], Awaitable[Reply]] = store.append_async

        async def append_async(name: str, batch: Batch) -> Reply:
            begun = time.monotonic()
            try:
                return await ask(name, batch)
            finally:
                if len(self._calls) < CALLS:
                    tries = self._calls.setdefault((batch.producer, batch.sequence), [])
                    tries.append((begun, time.monotonic()))

        store.append_async = append_async

    def begin(self, scope: Scope) -> Span:
        """The span of a request, in force until its task ends."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        method = scope["method"]
        span = self._tracer.start_span(
            method, _PARENT.extract(headers), SpanKind.SERVER, {"http.request.method": method}
        )
        context.attach(trace.set_span_in_context(span))
        return span

    def end(self, span: Span, method: str, route: str, status: int, request_id: str) -> None:
        """The request was answered."""
        if route.startswith("/"):  # else its name would be anything
            span.update_name(f"{method} {route}")
            span.set_attribute("http.route", route)
        span.set_attribute("http.response.status_code", status)
        span.set_attribute("bandit.request_id", request_id)
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def current(self) -> SpanContext | None:
        """The span of the request at hand, if it is sampled."""
        found = trace.get_current_span().get_span_context()
        return found if found.is_valid and found.trace_flags.sampled else None

    def served(
        self, experiment: str, waited: Iterable[tuple[SpanContext | None, float]], times: tuple[float, float, float],
        number: tuple[str, int], requests: int,
    ) -> None:  # fmt: skip
        """A micro-batch was appended: tell it below each of its requests.

        Args:
            experiment: its name.
            waited: (span, since when it waited) of each request; several of one batch have one span.
            times: when deciding began, when appending, and when that was over (`time.monotonic()`).
            number: producer and sequence number.
            requests: how many there were.
        """
        decide, append, end = times
        tries, past = self._calls.pop(number, []), time.time_ns() - time.monotonic_ns()
        about = {"bandit.experiment": experiment, "bandit.tick.requests": requests}
        seen: set[int] = set()
        for parent, since in waited:
            if parent is None or parent.span_id in seen:
                continue
            seen.add(parent.span_id)
            below = trace.set_span_in_context(NonRecordingSpan(parent))
            self._told("wait", below, since, decide, past, about)
            self._told("decide", below, decide, append, past, about)
            appended = self._told("append", below, append, end, past, about)
            for begun, ended in tries:
                self._told("store", appended, begun, ended, past, {"db.system.name": "redis"}, SpanKind.CLIENT)

    def _told(
        self, name: str, parent: context.Context, begun: float, ended: float, past: int, about: dict[str, Any],
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> context.Context:  # fmt: skip
        """A span that is over; what is below it."""
        span = self._tracer.start_span(name, parent, kind, about, start_time=round(begun * 1e9) + past)
        span.end(round(ended * 1e9) + past)
        return trace.set_span_in_context(span)


def _ended(shutdown: Callable[[], None]) -> None:
    """Send what is left, for `CLOSING` seconds at most: whoever takes the spans may be away."""
    thread = threading.Thread(target=shutdown, name="spans", daemon=True)
    thread.start()
    thread.join(CLOSING)


def exporting(store: Store) -> Spans:
    """Spans that are sent over OTLP, as the OTEL_* variables say.

    Raises:
        ImportError: the extra `otel` is not installed.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    told = Resource.create()  # of the environment
    named = told.attributes.get(SERVICE_NAME, "unknown_service")
    own = {SERVICE_NAME: "bandit-server"} if str(named).startswith("unknown_service") else {}
    provider = TracerProvider(resource=told.merge(Resource(own)), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    spans = Spans(provider.get_tracer("bandit", __version__), lambda: _ended(provider.shutdown))
    spans.watch(store)
    return spans
