"""Messages travel as the protocol, sections 1 and 2, says; nothing else does."""

from __future__ import annotations

import contextlib
import json
from typing import Any, ClassVar
from unittest import mock

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wow import errors, wire

CONTEXT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class ReadingFromClients(SynchronousTestCase):
    """A client's frame is one of its two messages to the letter, or malformed."""

    def accept(self, text: str | bytes, message: wire.ClientMessage) -> None:
        body = text if isinstance(text, bytes) else text.encode()
        self.assertEqual(wire.decode_from_client(body), message)

    def refuse(self, text: str | bytes) -> None:
        body = text if isinstance(text, bytes) else text.encode()
        self.assertRaises(errors.Malformed, wire.decode_from_client, body)

    def solution(self, nonce: str) -> str:
        return f'{{"type":"solution","challenge":"x","nonces":[{nonce}]}}'

    def test_request(self) -> None:
        self.accept('{"type":"request","resource":"a-b-1"}', wire.Request("a-b-1"))

    def test_default_resource(self) -> None:
        self.accept('{"type":"request"}', wire.Request("quote"))

    def test_solution(self) -> None:
        self.accept(self.solution("0,9007199254740991"), wire.Solution("x", [0, 2**53 - 1]))

    def test_order_and_white_space_do_not_matter(self) -> None:
        self.accept(' {"resource" : "a",\n"type":"request"} ', wire.Request("a"))

    def test_escapes_in_names(self) -> None:
        self.accept('{"typ\\u0065":"request"}', wire.Request())

    def test_not_json(self) -> None:
        for text in ("", "x", "{", '{"type":"request"', '{"type":"request"}x', "\x00", "'a'"):
            self.refuse(text)

    def test_not_an_object(self) -> None:
        for text in ("null", "1", '"request"', '["request"]', "[]", "true"):
            self.refuse(text)

    def test_unknown_or_missing_type(self) -> None:
        for text in ("{}", '{"resource":"a"}', '{"type":"quote"}', '{"type":null}', '{"type":1}'):
            self.refuse(text)

    def test_unknown_field(self) -> None:
        self.refuse('{"type":"request","x":1}')
        self.refuse('{"type":"request","nonces":[]}')
        self.refuse('{"type":"solution","challenge":"x","nonces":[1],"x":1}')

    def test_missing_field(self) -> None:
        self.refuse('{"type":"solution","challenge":"x"}')
        self.refuse('{"type":"solution","nonces":[1]}')

    def test_resource_names(self) -> None:
        for name in ("", "A", "a_b", "a b", "é", "a" * 33, "a\\n", "a\\u0000"):
            self.refuse(f'{{"type":"request","resource":"{name}"}}')
        for value in ("null", "1", "[]", '["quote"]'):
            self.refuse(f'{{"type":"request","resource":{value}}}')

    def test_trace_context(self) -> None:
        for flags in ("00", "01", "ff"):
            context = f"{CONTEXT[:-2]}{flags}"
            self.accept(
                f'{{"type":"request","traceparent":"{context}"}}', wire.Request("quote", context)
            )

    def test_no_trace_context(self) -> None:
        _, trace, span, flags = CONTEXT.split("-")
        for parts in (
            ("01", trace, span, flags),
            ("ff", trace, span, flags),
            ("00", "0" * 32, span, flags),
            ("00", trace, "0" * 16, flags),
            ("00", trace[1:], span, flags),
            ("00", trace + "a", span, flags),
            ("00", trace, span[1:], flags),
            ("00", trace, span + "b", flags),
            ("00", trace.upper(), span, flags),
            ("00", trace, span, "g1"),
            ("00", trace, span, "1"),
            ("00", trace, span, flags, "x"),
            ("00", trace, span),
        ):
            self.refuse(f'{{"type":"request","traceparent":"{"-".join(parts)}"}}')
        for value in (f"{CONTEXT} ", f" {CONTEXT}", f"{CONTEXT}\\n", f"{CONTEXT}\\u0000", ""):
            self.refuse(f'{{"type":"request","traceparent":"{value}"}}')
        for value in ("null", "1", "[]", f'["{CONTEXT}"]'):
            self.refuse(f'{{"type":"request","traceparent":{value}}}')
        self.refuse(f'{{"type":"solution","challenge":"x","nonces":[1],"traceparent":"{CONTEXT}"}}')

    @given(st.text("-01af A\n", max_size=60) | st.from_regex(r"^[01af]{2}(-[01af]{2,32}){3}$"))
    def test_any_trace_context(self, text: str) -> None:
        body = json.dumps({"type": "request", "traceparent": text}).encode()
        _, trace, span, flags = [*text.split("-"), "", "", ""][:4]
        right = (
            text == f"00-{trace}-{span}-{flags}"
            and [len(part) for part in (trace, span, flags)] == [32, 16, 2]
            and not set(trace + span + flags) - set("0123456789abcdef")
            and int(trace, 16) > 0
            and int(span, 16) > 0
        )
        if right:
            self.accept(body, wire.Request("quote", text))
        else:
            self.refuse(body)

    def test_only_integers_are_integers(self) -> None:
        for nonce in ("1.0", "1e2", "true", '"1"', "null", "[1]", "01", "0x1", "NaN", "Infinity"):
            self.refuse(self.solution(nonce))

    def test_floats_are_never_made(self) -> None:
        # 9e307 and its like take the decoder 10 us each, unless it is told not to.
        many = ",".join(["9e307"] * 600)
        with mock.patch("wow.wire.msgspec.convert", side_effect=msgspec.ValidationError) as convert:
            self.refuse(f'{{"type":"request","x":[{many}]}}')
        ((fields, _), _) = convert.call_args
        self.assertEqual(set(fields["x"]), {None})

    def test_nonces_out_of_range(self) -> None:
        for nonce in ("-1", "9007199254740992", "1" * 30, "1" * 4000, "-" + "1" * 4000):
            self.refuse(self.solution(nonce))

    def test_deep_nesting(self) -> None:
        for opening, closing in (("[", "]"), ('{"a":', "}")):
            for depth in (100, 1000, 100_000):
                self.refuse('{"type":' + opening * depth)
                self.refuse(self.solution(opening * depth + closing * depth))
                self.refuse('{"type":"request","x":' + opening * depth + closing * depth + "}")

    def test_bad_utf8(self) -> None:
        for bad in (b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf5\x80\x80\x80"):
            self.refuse(b'{"type":"request","resource":"' + bad + b'"}')
            self.refuse(b'{"type":"solution","challenge":"' + bad + b'","nonces":[1]}')

    def test_byte_order_mark(self) -> None:
        self.refuse(b'\xef\xbb\xbf{"type":"request"}')
        self.refuse('{"type":"request"}'.encode("utf-16"))

    def test_last_of_repeated_fields_counts(self) -> None:
        self.accept('{"type":"request","resource":"a","resource":"b"}', wire.Request("b"))
        self.accept('{"type":"request","resource":1,"resource":"b"}', wire.Request("b"))
        self.accept('{"type":"solution","type":"request"}', wire.Request())
        self.refuse('{"type":"request","resource":"b","resource":1}')
        self.refuse('{"type":"request","type":"solution"}')

    def test_repeated_fields_are_read_as_strictly(self) -> None:
        for nonce in ("1.0", "true", '"1"', "-1", "9007199254740992"):
            self.refuse(
                f'{{"type":"x","type":"solution","challenge":"x","nonces":[1],"nonces":[{nonce}]}}'
            )

    def test_explanation_names_the_field_and_is_short(self) -> None:
        malformed = self.assertRaises(
            errors.Malformed, wire.decode_from_client, self.solution('"1"').encode()
        )
        self.assertIn("nonces", malformed.message)
        name = "x" * 4000
        malformed = self.assertRaises(
            errors.Malformed, wire.decode_from_client, f'{{"type":"request","{name}":1}}'.encode()
        )
        self.assertLessEqual(len(malformed.message), 200)

    @given(st.binary(max_size=300))
    def test_any_bytes(self, body: bytes) -> None:
        try:
            message = wire.decode_from_client(body)
        except errors.Malformed:
            return
        self.assertEqual(wire.decode_from_client(wire.encode(message)), message)

    @given(
        st.dictionaries(
            st.sampled_from(["type", "resource", "traceparent", "challenge", "nonces", "x"]),
            st.recursive(
                st.sampled_from(["request", "solution", "quote", CONTEXT])
                | st.none()
                | st.booleans()
                | st.integers()
                | st.floats()
                | st.text(),
                lambda children: st.lists(children, max_size=3),
                max_leaves=5,
            ),
        )
    )
    def test_any_object(self, fields: dict[str, Any]) -> None:
        try:
            message = wire.decode_from_client(json.dumps(fields).encode())
        except errors.Malformed:
            return
        self.assertEqual(fields.pop("type"), type(message).__name__.lower())
        for name, value in fields.items():
            self.assertEqual(getattr(message, name), value)


class ReadingFromServers(SynchronousTestCase):
    """A server may grow: unknown fields are ignored. What is known is checked."""

    challenge: ClassVar[dict[str, Any]] = {
        "type": "challenge",
        "challenge": "token",
        "algorithm": "sha256",
        "rounds": 8,
        "round_effort": 4096,
        "target": "000fffffffffffff",
        "expires_in": 60,
    }

    def decode(self, **changes: Any) -> wire.ServerMessage:
        return wire.decode_from_server(json.dumps({**self.challenge, **changes}).encode())

    def test_challenge(self) -> None:
        expected = wire.Challenge("token", 8, 4096, "000fffffffffffff", 60.0)
        self.assertEqual(self.decode(), expected)
        self.assertEqual(self.decode(new="field"), expected)

    def test_bad_challenges(self) -> None:
        for changes in (
            {"rounds": 0},
            {"rounds": 65},
            {"round_effort": 0},
            {"round_effort": 2**32},
            {"target": "000FFFFFFFFFFFFF"},
            {"target": "fff"},
            {"challenge": ""},
            {"challenge": "a b"},
            {"type": "riddle"},
        ):
            self.assertRaises(errors.Malformed, self.decode, **changes)

    @given(st.binary(max_size=300))
    def test_any_bytes(self, body: bytes) -> None:
        with contextlib.suppress(errors.Malformed):
            wire.decode_from_server(body)


class Writing(SynchronousTestCase):
    """What is written is what the protocol describes."""

    def test_frame_is_length_and_json(self) -> None:
        framed = wire.frame(wire.Quote("é", "A", "collection"))
        self.assertEqual(int.from_bytes(framed[:4], "big"), len(framed) - 4)
        self.assertEqual(
            json.loads(framed[4:]),
            {"type": "quote", "text": "é", "author": "A", "source": "collection"},
        )

    def test_trace_context_only_where_there_is_one(self) -> None:
        self.assertEqual(wire.encode(wire.Request("a")), b'{"type":"request","resource":"a"}')
        written = json.loads(wire.encode(wire.Request("a", CONTEXT)))
        self.assertEqual(written["traceparent"], CONTEXT)

    def test_challenge_has_every_field(self) -> None:
        written = json.loads(wire.encode(wire.Challenge("t", 1, 2, "7fffffffffffffff", 60.0)))
        self.assertEqual(set(written), set(ReadingFromServers.challenge))

    def test_retry_after_only_where_waiting_helps(self) -> None:
        self.assertNotIn(b"retry_after", wire.encode(wire.error_of(errors.Malformed())))
        busy = wire.error_of(errors.Busy(retry_after=1.5))
        self.assertIn(b'"retry_after":1.5', wire.encode(busy))

    def test_refusals_survive_the_journey(self) -> None:
        for code, kind in errors.BY_CODE.items():
            sent = kind(retry_after=2.0)
            received = wire.decode_from_server(wire.encode(wire.error_of(sent)))
            assert isinstance(received, wire.Error)
            refused = wire.refused_of(received)
            self.assertIs(type(refused), kind)
            self.assertEqual((refused.message, refused.retry_after), (sent.message, 2.0))
            self.assertEqual(received.code, code)

    def test_unknown_code(self) -> None:
        refused = wire.refused_of(wire.Error("new_code", "Something new."))
        self.assertIsInstance(refused, errors.Internal)
        self.assertEqual(refused.message, "Something new.")
