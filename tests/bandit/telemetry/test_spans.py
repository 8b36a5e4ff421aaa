"""Traces: a span for each request below the caller's, what its micro-batch did below that; off, nothing."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from live import CONTEXT, Live, ok, serving
from live import valkey as own_valkey
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from bandit.serving.service import Service
from bandit.serving.telemetry.spans import Spans
from bandit.settings import Settings

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACED = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
EXPORTED = InMemorySpanExporter()


@pytest.fixture(scope="module")
def traced() -> Iterator[Live]:
    """A server whose requests are traced."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(EXPORTED))

    def made(url: str) -> Service:
        service = Service.open(Settings(redis_url=url))
        service.spans = Spans(provider.get_tracer("test"))
        service.spans.watch(service.store)
        return service

    with own_valkey() as url, serving(made=lambda: made(url)) as live:
        ok(live.client.get("/healthz"))
        yield live


def spans(trace: str) -> dict[str, list[ReadableSpan]]:
    """The spans of a trace, by name."""
    found: dict[str, list[ReadableSpan]] = {}
    for span in EXPORTED.get_finished_spans():
        if f"{span.context.trace_id:032x}" == trace:
            found.setdefault(span.name, []).append(span)
    return found


def parent(span: ReadableSpan) -> str:
    """The id of the span above."""
    assert span.parent is not None
    return f"{span.parent.span_id:016x}"


@pytest.mark.parametrize("what", ["recommendations", "feedback", "recommendations/batch"])
def test_a_request_is_below_its_caller_and_its_micro_batch_below_it(traced: Live, what: str) -> None:
    """Over real HTTP, of the requests that would go the short way too: names, parents, order in time, attributes."""
    home = traced.experiment()
    decided = home.decided()
    bodies: dict[str, Any] = {
        "recommendations": {"context": CONTEXT},
        "feedback": {"event": "click", "decision_id": decided["decision_id"]},
        "recommendations/batch": {"requests": [{"context": CONTEXT}] * 3},
    }
    EXPORTED.clear()
    answer = traced.client.post(f"{home.at}/{what}", json=bodies[what], headers=TRACED)
    assert answer.status_code == 200
    found = spans(TRACE)
    route = f"/v1/experiments/{{e}}/{what}"
    assert {name: len(each) for name, each in found.items()} == {
        f"POST {route}": 1, "wait": 1, "decide": 1, "append": 1, "store": 1,
    }  # fmt: skip
    request, wait, decide, append, store = (
        found[name][0] for name in (f"POST {route}", "wait", "decide", "append", "store")
    )
    assert (parent(request), request.kind) == (CALLER, SpanKind.SERVER)
    assert request.attributes == {
        "http.request.method": "POST", "http.route": route, "http.response.status_code": 200,
        "bandit.request_id": answer.headers["x-request-id"],
    }  # fmt: skip
    own = f"{request.context.span_id:016x}"
    assert [parent(each) for each in (wait, decide, append)] == [own] * 3
    assert parent(store) == f"{append.context.span_id:016x}"
    assert append.attributes is not None
    assert append.attributes["bandit.experiment"] == home.name
    times = [(each.start_time or 0, each.end_time or 0) for each in (request, wait, decide, append, store)]
    assert all(begun <= ended for begun, ended in times)
    (r0, r1), (w0, w1), (d0, d1), (a0, a1), (s0, s1) = times
    slack = 5_000_000  # ns: two clocks, read one after the other
    assert r0 - slack <= w0 <= w1 == d0 <= d1 == a0 <= a1 <= r1 + slack
    assert a0 - slack <= s0 <= s1 <= a1 + slack


def test_refusals_and_other_routes_are_traced_too(traced: Live) -> None:
    """By the route's template; an unknown address has no name of its own, and only an error of ours is one."""
    home = traced.experiment()
    EXPORTED.clear()
    for method, path in (("POST", f"{home.at}/feedback"), ("GET", home.at), ("GET", "/nowhere/at/all")):
        traced.client.request(method, path, json={} if method == "POST" else None, headers=TRACED)
    found = spans(TRACE)
    assert found.keys() == {"POST /v1/experiments/{e}/feedback", "GET /v1/experiments/{e}", "GET"}
    assert {span.status.status_code for each in found.values() for span in each} == {StatusCode.UNSET}


def test_what_the_caller_did_not_sample_has_no_spans_below(traced: Live) -> None:
    """Its flag says so; and a traceparent that is none begins a trace of its own."""
    home = traced.experiment()
    EXPORTED.clear()
    traced.client.post(
        f"{home.at}/recommendations", json={"context": CONTEXT}, headers={"traceparent": f"00-{TRACE}-{CALLER}-00"}
    )
    assert spans(TRACE) == {}
    traced.client.post(f"{home.at}/recommendations", json={"context": CONTEXT}, headers={"traceparent": "nonsense"})
    assert len({span.context.trace_id for span in EXPORTED.get_finished_spans()}) == 1
    assert spans(TRACE) == {}


def test_nothing_of_it_is_loaded_where_it_is_off() -> None:
    """Our module is not, which loads the rest (redis-py loads OpenTelemetry's API where it finds it)."""
    code = "import sys, bandit.process.worker, bandit.__main__; print('bandit.serving.telemetry.spans' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_the_exporter_takes_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name and sampler are OpenTelemetry's own variables; without them the service is called by its name."""
    from bandit.serving.telemetry.spans import exporting
    from bandit.store.memory_store import MemoryStore

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    spans = exporting(MemoryStore())
    tracer: Any = spans._tracer
    assert tracer.resource.attributes["service.name"] == "bandit-server"
    assert not tracer.start_span("x").is_recording()
    spans.close()
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    spans = exporting(MemoryStore())
    tracer = spans._tracer
    assert tracer.resource.attributes["service.name"] == "mine"
    spans.close()
