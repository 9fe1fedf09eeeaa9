"""Tokens are those of the protocol, section 4, to the byte; nothing else opens."""

from __future__ import annotations

import base64
import hmac
import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wow.errors import InvalidChallenge
from wow.pow.keys import Key, KeyRing
from wow.pow.token import UNBOUND, Token, bind, open_sealed, pack, seal

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors.json").read_text())
KEY = Key(bytes.fromhex(VECTORS["key"]))
RING = KeyRing([KEY])
OTHER = KeyRing([Key(bytes(32))])
CLIENT = bind(pack("192.0.2.7"))

tokens = st.builds(
    Token,
    rounds=st.integers(1, 64),
    round_effort=st.integers(1, 2**32 - 1),
    expiry_ms=st.integers(0, 2**64 - 1),
    random_id=st.binary(min_size=16, max_size=16),
    resource=st.from_regex(r"\A[a-z0-9-]{1,32}\Z"),
)
bindings = st.sampled_from([UNBOUND, CLIENT, bind(pack("2001:db8::1"))])


def vector_token(case: dict[str, Any]) -> Token:
    return Token(
        case["rounds"],
        case["round_effort"],
        case["expiry_ms"],
        bytes.fromhex(case["random_id"]),
        case["resource"],
    )


CONTEXT = b"wow/challenge/v1\x00"


def signed(payload: bytes, binding: bytes = CLIENT, context: bytes = CONTEXT) -> str:
    """A payload with a good tag, whatever is in it."""
    tag = hmac.digest(KEY.secret, context + payload + binding, "sha256")
    return base64.urlsafe_b64encode(payload + tag).rstrip(b"=").decode()


def payload_of(text: str) -> bytearray:
    return bytearray(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))[:-32])


class Vectors(SynchronousTestCase):
    """The test vectors of the protocol."""

    def test_sealing_gives_the_same_text(self) -> None:
        for case in VECTORS["cases"]:
            binding = bind(pack(case["client_address"]))
            self.assertEqual(binding.hex(), case["binding"], case["name"])
            self.assertEqual(seal(vector_token(case), RING, binding), case["token"], case["name"])

    def test_opening_gives_the_same_fields(self) -> None:
        for case in VECTORS["cases"]:
            opened = open_sealed(case["token"], RING, bind(pack(case["client_address"])))
            self.assertEqual(opened, vector_token(case), case["name"])


class Opening(SynchronousTestCase):
    text = seal(Token(8, 1000, 2**40, bytes(16), "quote"), RING, CLIENT)

    def refuse(self, text: str, ring: KeyRing = RING, binding: bytes = CLIENT) -> None:
        self.assertRaises(InvalidChallenge, open_sealed, text, ring, binding)

    @given(tokens, bindings)
    def test_what_was_sealed_opens(self, token: Token, binding: bytes) -> None:
        self.assertEqual(open_sealed(seal(token, RING, binding), RING, binding), token)

    @given(tokens, bindings)
    def test_any_flipped_bit_is_refused(self, token: Token, binding: bytes) -> None:
        text = seal(token, RING, binding)
        sealed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        for bit in range(len(sealed) * 8):
            flipped = bytearray(sealed)
            flipped[bit // 8] ^= 1 << bit % 8
            self.refuse(base64.urlsafe_b64encode(flipped).rstrip(b"=").decode(), binding=binding)

    def test_any_flipped_bit_of_the_text_is_refused(self) -> None:
        for place in range(len(self.text)):
            for bit in range(8):
                changed = chr(ord(self.text[place]) ^ 1 << bit)
                self.refuse(self.text[:place] + changed + self.text[place + 1 :])

    def test_key_rotation(self) -> None:
        both = KeyRing([Key(bytes(32)), KEY])
        open_sealed(self.text, both, CLIENT)
        self.refuse(self.text, OTHER)

    def test_other_client(self) -> None:
        for binding in (bind(pack("192.0.2.8")), bind(pack("::c000:207")), UNBOUND, b""):
            self.refuse(self.text, binding=binding)

    def test_canonical_form_only(self) -> None:
        padded = self.text + "=" * (-len(self.text) % 4)
        for text in (
            padded,
            self.text + "=",
            self.text + "\n",
            " " + self.text,
            self.text[:10] + "\n" + self.text[10:],
            self.text[:10] + "*" + self.text[10:],
            self.text.replace("_", "/").replace("-", "+") if set("-_") & set(self.text) else "+",
            self.text[:-1] + chr(ord(self.text[-1]) + 1),
            self.text + "\u00e9",
            self.text + "\x00",
        ):
            self.refuse(text)

    def test_trailing_bits_must_be_zero(self) -> None:
        # The last character of 73 bytes carries 2 bits of them and 4 to spare.
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        last = alphabet.index(self.text[-1])
        for spare in range(1, 16):
            self.refuse(self.text[:-1] + alphabet[last ^ spare])

    def test_wrong_lengths(self) -> None:
        for text in ("", "A", self.text[:-1], self.text + "A", self.text[4:], "A" * 4000):
            self.refuse(text)

    def test_length_of_the_resource_must_fit(self) -> None:
        for length in (0, 4, 6, 32, 255):
            payload = payload_of(self.text)
            payload[3] = length
            self.refuse(signed(bytes(payload)))

    def test_signed_but_foreign(self) -> None:
        # Whoever signs with our key for another purpose or version.
        for place, value in ((0, 0), (0, 2), (1, 0), (1, 2), (2, 0), (2, 65), (2, 255)):
            payload = payload_of(self.text)
            payload[place] = value
            self.refuse(signed(bytes(payload)))
        payload = payload_of(self.text)
        open_sealed(signed(bytes(payload)), RING, CLIENT)
        self.refuse(signed(bytes(payload), context=b"wow/key-id/v1\x00"))

    def test_signed_for_no_work_at_all(self) -> None:
        payload = payload_of(self.text)
        payload[4:8] = bytes(4)
        self.refuse(signed(bytes(payload)))

    def test_fields_cannot_move_into_one_another(self) -> None:
        # The resource's end and the binding's beginning are told apart by lengths.
        token = Token(1, 1, 1, bytes(16), "a")
        payload = payload_of(seal(token, RING, b"b\x00"))
        self.refuse(signed(bytes(payload), b"b\x00")[:-4], binding=b"\x00")
        moved = bytes(payload) + b"b"
        text = base64.urlsafe_b64encode(
            moved + hmac.digest(KEY.secret, b"wow/challenge/v1\x00" + moved + b"\x00", "sha256")
        )
        self.refuse(text.rstrip(b"=").decode(), binding=b"\x00")

    @given(st.text(max_size=200) | st.from_regex(r"\A[A-Za-z0-9_-]{92,134}\Z"))
    def test_any_text(self, text: str) -> None:
        self.refuse(text)


class Binding(SynchronousTestCase):
    """A client is an address prefix."""

    def test_ipv4(self) -> None:
        self.assertEqual(bind(pack("192.0.2.7")), b"\x04\xc0\x00\x02\x07")
        self.assertEqual(bind(pack("192.0.2.7"), prefix_v4=24), b"\x04\xc0\x00\x02\x00")
        self.assertEqual(bind(pack("192.0.2.7"), prefix_v4=25), b"\x04\xc0\x00\x02\x00")
        self.assertEqual(bind(pack("192.0.2.7"), prefix_v4=31), b"\x04\xc0\x00\x02\x06")

    def test_ipv4_mapped_is_ipv4(self) -> None:
        for address in ("::ffff:192.0.2.7", "::FFFF:c000:207", "0:0:0:0:0:ffff:192.0.2.7"):
            self.assertEqual(bind(pack(address)), bind(pack("192.0.2.7")))

    def test_others_are_not(self) -> None:
        self.assertNotEqual(bind(pack("::192.0.2.7")), bind(pack("192.0.2.7")))
        self.assertNotEqual(bind(pack("64:ff9b::192.0.2.7")), bind(pack("192.0.2.7")))

    def test_ipv6_network(self) -> None:
        self.assertEqual(
            bind(pack("2001:db8:1:2:3:4:5:6")).hex(), "1020010db8000100020000000000000000"
        )
        self.assertEqual(bind(pack("2001:db8:1:2::1")), bind(pack("2001:db8:1:2:ffff::")))
        self.assertNotEqual(bind(pack("2001:db8:1:2::1")), bind(pack("2001:db8:1:3::1")))
        self.assertEqual(
            bind(pack("2001:db8:1:2::1"), 32, 48), bind(pack("2001:db8:1:3::1"), 32, 48)
        )

    def test_zone_is_left_out(self) -> None:
        self.assertEqual(bind(pack("fe80::1%eth0")), bind(pack("fe80::2")))

    def test_no_address(self) -> None:
        self.assertEqual(bind(pack(None)), b"\x00")

    def test_not_an_address(self) -> None:
        for text in ("", "localhost", "1.2.3", "1.2.3.4.5", "01.2.3.4", "::g", "1.2.3.4%eth0"):
            self.assertRaises(ValueError, pack, text)
