"""Exchanges with a real server, traced by a real collector on loopback."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTracePartialSuccess
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.collector import Collector, attributes
from tests.running import (
    PATIENCE,
    Client,
    Message,
    Running,
    Server,
    run_twistd,
    solve,
    test_environment,
    wait_until,
)

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{SPAN}-01"
NOT_SAMPLED = f"00-{TRACE}-{SPAN}-00"
WHOLE = ["issue", "solve", "check", "prepare", "spend", "send"]
WOW = [sys.executable, "-c", "import sys; from wow.cli.main import main; sys.exit(main())"]

FRIEND, STRANGER = "127.9.9.1", "127.8.8.1"


class Traced(Running):
    """A server, and a collector that it was told of. All exchanges are traced."""

    def setUp(self) -> None:
        self.collector = self.collect()

    def collect(self, port: int = 0) -> Collector:
        collector = Collector(port)
        self.addCleanup(collector.close)
        return collector

    def trace(self, **environ: str) -> Server:
        settings = {
            "WOW_TRACING__ENDPOINT": self.collector.url,
            "WOW_TRACING__RATIO": "1",
            **environ,
        }
        return self.start(None, **settings)

    def exchange(self, client: Client, traceparent: str | None = None) -> Message:
        request = {"type": "request"}
        if traceparent is not None:
            request["traceparent"] = traceparent
        quote = client.say(solve(client.say(request)))
        self.assertEqual(quote["type"], "quote")
        return quote

    def spans_counted(self, server: Server, outcome: str) -> float:
        return server.metric(f'wow_trace_spans_total{{outcome="{outcome}"}}')


class WhatIsExported(Traced):
    def test_exchange(self) -> None:
        self.connect(self.trace()).quote()
        (trace,) = self.collector.wait_for(1)
        self.assertEqual(trace.names, WHOLE)
        self.assertEqual(trace.whole.kind, Span.SPAN_KIND_SERVER)
        self.assertEqual(trace.whole.parent_span_id, b"")
        self.assertEqual(trace.whole.status.code, Status.STATUS_CODE_UNSET)
        for stage, following in zip(trace.stages, trace.stages[1:], strict=False):
            self.assertEqual(stage.end_time_unix_nano, following.start_time_unix_nano)
        self.assertLessEqual(trace.whole.start_time_unix_nano, trace.stages[0].start_time_unix_nano)
        self.assertGreaterEqual(trace.whole.end_time_unix_nano, trace.stages[-1].end_time_unix_nano)
        self.assertEqual({stage.trace_id for stage in trace.stages}, {trace.whole.trace_id})
        # And how it came.
        received = self.collector.received[0]
        self.assertEqual(received.path, "/v1/traces")
        self.assertEqual(received.headers["content-type"], "application/x-protobuf")
        (resource,) = received.decode().resource_spans
        described = attributes(resource.resource.attributes)
        self.assertEqual(described["service.name"], "wow")
        self.assertEqual(set(described), {"service.name", "service.version", "service.instance.id"})

    def test_service_by_another_name(self) -> None:
        """As every program with OpenTelemetry in it is told."""
        server = self.trace(
            OTEL_SERVICE_NAME="gate", OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test"
        )
        self.connect(server).quote()
        self.collector.wait_for(1)
        (resource,) = self.collector.received[0].decode().resource_spans
        described = attributes(resource.resource.attributes)
        self.assertEqual(described["service.name"], "gate")
        self.assertEqual(described["deployment.environment.name"], "test")

    def test_refusals(self) -> None:
        server = self.trace()
        self.connect(server).say({"type": "request", "resource": "riches"})
        client = self.connect(server)
        solution = client.solution()
        client.say(solution)
        client.say(solution)
        traces = self.collector.wait_for(3)
        outcomes = {
            (trace.outcome, attributes(trace.whole.attributes).get("error.type"))
            for trace in traces
        }
        self.assertEqual(
            outcomes, {("refused", "unknown_resource"), ("served", None), ("refused", "replayed")}
        )
        (replay,) = [trace for trace in traces if trace.whole.status.message == "replayed"]
        self.assertEqual(replay.names, ["check", "prepare", "spend"])
        self.assertEqual(replay.whole.status.code, Status.STATUS_CODE_ERROR)

    def test_nothing_secret(self) -> None:
        key_file = self.key_file()
        server = self.trace(WOW_KEYS__FILE=key_file)
        client = self.connect(server, "127.1.2.3")
        solution = client.solution()
        client.say(solution)
        (trace,) = self.collector.wait_for(1)
        told = attributes(trace.whole.attributes)
        self.assertEqual(told["client.address"], "127.1.2.0")
        for stage in trace.stages:
            self.assertEqual(len(stage.attributes), 0)
        sent = b"".join(received.body for received in self.collector.received)
        for secret in (solution["challenge"], "127.1.2.3", Path(key_file).read_text()):
            self.assertNotIn(secret.encode(), sent)
        # And what is told is what the page says.
        self.assertEqual({*told, "error.type"}, set(_documented()))

    def test_secret_header(self) -> None:
        server = self.trace(
            WOW_TRACING__HEADERS='{"Authorization": "env:COLLECTOR_TOKEN"}',
            COLLECTOR_TOKEN="Bearer s3cr3t",
            WOW_LOG__LEVEL="debug",
        )
        self.connect(server).quote()
        self.collector.wait_for(1)
        self.assertEqual(self.collector.received[0].headers["authorization"], "Bearer s3cr3t")
        shown = server.page("/metrics")[1] + server.page("/health/ready")[1]
        server.stop()
        self.assertNotIn("s3cr3t", shown + str(server.events))

    def test_what_is_left_when_it_stops(self) -> None:
        server = self.trace()
        client = self.connect(server)
        for _ in range(10):
            client.quote()
        client.challenge()
        client.close()
        server.stop()
        outcomes = [trace.outcome for trace in self.collector.traces()]
        self.assertEqual(outcomes, ["served"] * 10 + ["abandoned"])

    def test_log_has_no_line_for_it(self) -> None:
        server = self.trace()
        self.connect(server).quote()
        self.collector.wait_for(1)
        server.signal(signal.SIGTERM)
        server.wait()
        events = [event["event"] for event in server.events]
        served = events[events.index("started") + 1 : events.index("stopping")]
        self.assertEqual(served, ["Received SIGTERM, shutting down."])


class ManyProcesses(Traced):
    def test_each_tells_of_its_own(self) -> None:
        server = self.trace(WOW_WORKERS="2")
        for worker in (1, 2):
            server.wait_for("worker_ready", worker=worker)
        for number in range(1, 21):
            # A client of another network each time, so that both serve some.
            with server.connect(f"127.{number}.0.1") as client:
                client.quote()
        # A worker that is busy may miss the first question of how it is.
        wait_until(lambda: "wow_trace_spans_total" in server.page("/metrics")[1])
        wait_until(lambda: self.spans_counted(server, "exported") == 20 * 7)
        self.assertEqual([trace.outcome for trace in self.collector.traces()], ["served"] * 20)
        instances = {
            attributes(resource.resource.attributes)["service.instance.id"]
            for received in self.collector.received
            for resource in received.decode().resource_spans
        }
        self.assertEqual(len(instances), 2)

    def test_log_lines_and_what_is_left_when_they_stop(self) -> None:
        server = self.trace(WOW_WORKERS="2", WOW_LOG__LEVEL="debug")
        with server.connect() as client:
            client.say({"type": "request", "resource": "riches"})
        server.stop()
        (trace,) = self.collector.traces()
        refused = server.wait_for("refused", code="unknown_resource")
        self.assertEqual(refused["trace_id"], trace.whole.trace_id.hex())


class Contexts(Traced):
    """C{traceparent}: whose is believed, and whose is not."""

    def test_stranger(self) -> None:
        self.exchange(self.connect(self.trace()), SAMPLED)
        (trace,) = self.collector.wait_for(1)
        self.assertNotEqual(trace.whole.trace_id.hex(), TRACE)
        self.assertEqual(trace.whole.parent_span_id, b"")
        (link,) = trace.whole.links
        self.assertEqual((link.trace_id.hex(), link.span_id.hex()), (TRACE, SPAN))

    def test_flood_of_strangers_who_want_to_be_traced(self) -> None:
        server = self.trace(
            WOW_TRACING__RATIO="0", WOW_TRACING__NETWORKS=f'["{FRIEND}", "192.0.2.0/24"]'
        )
        stranger, friend = self.connect(server, STRANGER), self.connect(server, FRIEND)
        for number in range(1, 51):
            # Among them those that a sampler by number would take.
            self.exchange(stranger, f"00-{number:032x}-{SPAN}-01")
        self.exchange(friend, NOT_SAMPLED)
        self.exchange(friend, SAMPLED)
        server.stop()
        (trace,) = self.collector.traces()
        self.assertEqual(trace.whole.trace_id.hex(), TRACE)
        self.assertEqual(trace.whole.parent_span_id.hex(), SPAN)
        self.assertEqual(len(trace.whole.links), 0)

    def test_the_client_that_comes_with_it(self) -> None:
        server = self.trace(WOW_TRACING__RATIO="0", WOW_TRACING__NETWORKS='["127.0.0.0/8"]')
        asked = subprocess.run(
            [*WOW, "quote", f"127.0.0.1:{server.address[1]}", "--traceparent", SAMPLED],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        self.assertEqual((asked.returncode, asked.stderr), (0, ""))
        (trace,) = self.collector.wait_for(1)
        self.assertEqual(trace.whole.trace_id.hex(), TRACE)
        self.assertEqual(trace.whole.parent_span_id.hex(), SPAN)
        self.assertEqual(trace.names, WHOLE)

    def test_malformed(self) -> None:
        server = self.trace()
        for context in ("", SAMPLED.upper(), f"{SAMPLED}-00", f"00-{'0' * 32}-{SPAN}-01", None, 1):
            client = self.connect(server)
            answer = client.say({"type": "request", "traceparent": context})
            self.assertEqual(answer["code"], "malformed")
            self.assertIsNone(client.hear())


class LogLines(Traced):
    def test_trace_id(self) -> None:
        server = self.trace(WOW_LOG__LEVEL="debug")
        client = self.connect(server)
        client.say({"type": "request", "resource": "riches"})
        refused = server.wait_for("refused", code="unknown_resource")
        (trace,) = self.collector.wait_for(1)
        self.assertEqual(refused["trace_id"], trace.whole.trace_id.hex())
        client.say({"type": "riches"})
        self.assertNotIn("trace_id", server.wait_for("refused", code="malformed"))

    def test_fault_of_ours(self) -> None:
        """The traceback is found by the trace, and the trace says nothing of it."""
        directory = Path(self.mktemp())
        server = self.start(
            directory,
            WOW_TRACING__ENDPOINT=self.collector.url,
            WOW_TRACING__RATIO="1",
            PYTHONPATH=str(_broken(self.mktemp())),
        )
        answer = self.connect(server).quote()
        self.assertEqual(answer["code"], "internal")
        (trace,) = self.collector.wait_for(1)
        told = server.wait_for("internal_error")
        self.assertEqual(told["trace_id"], trace.whole.trace_id.hex())
        self.assertEqual(trace.whole.status.message, "internal")
        self.assertNotIn(b"on purpose", self.collector.received[0].body)


def _documented() -> list[str]:
    """The attributes that docs/tracing.md has."""
    page = (Path(__file__).parent.parent / "docs" / "tracing.md").read_text()
    table = page.split("### What is told")[1].split("\nAnd of the server")[0]
    return re.findall(r"(?m)^\| `([a-z_.]+)` \|", table)


def _broken(directory: str) -> Path:
    """A folder that, on the path, makes a server whose resource does not work."""
    path = Path(directory).absolute()
    path.mkdir()
    (path / "sitecustomize.py").write_text(
        "from wow.quotes.service import QuoteService\n"
        "def prepare(self, client):\n"
        "    raise ZeroDivisionError('on purpose')\n"
        "QuoteService.prepare = prepare\n"
    )
    return path


class ACollectorInTrouble(Traced):
    """It costs spans, never an exchange."""

    def test_silent(self) -> None:
        server = self.trace(WOW_LIMITS__DRAIN="0.5")
        self.collector.answers.clear()
        client = self.connect(server)
        # Each has seven spans, and the server keeps 2048.
        for _ in range(320):
            client.quote()
        dropped = self.spans_counted(server, "dropped")
        # One batch is on its way.
        self.assertTrue(7 * 320 - 2048 - 64 <= dropped <= 7 * 320 - 2048, dropped)
        client.close()
        server.signal(signal.SIGTERM)
        server.wait()
        began, ended = (
            datetime.fromisoformat(server.wait_for(event)["timestamp"])
            for event in ("stopping", "stopped")
        )
        # A request by itself would be waited for five seconds.
        self.assertLess((ended - began).total_seconds(), 4)

    def test_gone_and_back(self) -> None:
        port = self.collector.port
        server = self.trace()
        self.collector.close()
        client = self.connect(server)
        client.quote()
        told = server.wait_for("spans_not_exported")
        self.assertRegex(told["reason"], "^ConnectionRefusedError")
        self.assertEqual(self.spans_counted(server, "failed"), 7)
        client.quote()
        back = self.collect(port)
        back.wait_for(1)
        server.wait_for("spans_exported_again")
        self.assertEqual(self.spans_counted(server, "exported"), 7)
        self.assertEqual(server.page("/health/ready")[0], 200)

    def test_refusing(self) -> None:
        self.collector.status = 503
        server = self.trace()
        self.connect(server).quote()
        told = server.wait_for("spans_not_exported")
        self.assertEqual(told["reason"], "the API answered with status 503")

    def test_choosy(self) -> None:
        partial = ExportTracePartialSuccess(rejected_spans=3, error_message="no")
        self.collector.answer.partial_success.CopyFrom(partial)
        server = self.trace()
        self.connect(server).quote()
        wait_until(lambda: self.spans_counted(server, "rejected") == 3)
        self.assertEqual(self.spans_counted(server, "exported"), 4)


class Off(Running):
    """Where it is off, nothing of it is there, nor needs to be."""

    def shadow(self, code: str) -> str:
        """A folder that, on the path, puts something else in the place of OpenTelemetry."""
        directory = Path(self.mktemp()).absolute()
        (directory / "opentelemetry").mkdir(parents=True)
        (directory / "opentelemetry" / "__init__.py").write_text(code)
        return str(directory)

    def test_not_imported(self) -> None:
        path = self.shadow("raise RuntimeError('imported')")
        server = self.start(None, PYTHONPATH=path)
        client = self.connect(server)
        self.assertEqual(client.quote()["type"], "quote")
        context = {"type": "request", "traceparent": SAMPLED}
        self.assertEqual(client.say(solve(client.say(context)))["type"], "quote")
        server.stop()
        self.assertNotIn("imported", str(server.events))

    def test_not_installed(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        environ = test_environment(
            {
                "PYTHONPATH": self.shadow(""),
                "WOW_TRACING__ENDPOINT": "http://127.0.0.1:4318/v1/traces",
            }
        )
        ended = run_twistd(directory, environ, "-n", "--pidfile=", "wow")
        self.assertEqual(ended.returncode, 1)
        self.assertRegex(
            ended.stdout, r"(?m)^wow: tracing\.endpoint: .*pip install 'wow\[tracing\]'$"
        )
        checked = subprocess.run(
            [*WOW, "config", "check"],
            env=environ,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        self.assertNotEqual(checked.returncode, 0)
        self.assertIn("tracing.endpoint", checked.stdout + checked.stderr)
