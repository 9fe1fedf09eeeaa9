"""
Headers of the PROXY protocol are read as its text says, in pieces of any size, and nothing else is.

The sections named are those of HAProxy's C{proxy-protocol.txt}. Headers are
built here by hand from its words, not by what reads them.
"""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wow.connection import Peer
from wow.proxy.header import LONGEST_V2, BadHeader, Header, read

SIGNATURE = bytes.fromhex("0D 0A 0D 0A 00 0D 0A 51 55 49 54 0A")
LOCAL, PROXY = 0x20, 0x21
TCP4, TCP6 = 0x11, 0x21

FULL_V6 = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"


def v1(family: str, *rest: str) -> bytes:
    return " ".join(["PROXY", family, *rest]).encode("ascii") + b"\r\n"


def v2(command: int, family: int, block: bytes, length: int | None = None) -> bytes:
    """
    @param block: addresses and TLVs.
    @param length: what is said of that, if it is not the truth.
    """
    announced = len(block) if length is None else length
    return SIGNATURE + bytes([command, family]) + announced.to_bytes(2, "big") + block


def tcp4(source: str, port: int) -> bytes:
    return (
        ip_address(source).packed + ip_address("192.0.2.1").packed + struct.pack("!HH", port, 443)
    )


def tcp6(source: str, port: int) -> bytes:
    return (
        ip_address(source).packed + ip_address("2001:db8::1").packed + struct.pack("!HH", port, 443)
    )


LOCAL_V2 = v2(LOCAL, 0x00, b"")
UNSPECIFIED_V2 = v2(PROXY, 0x00, b"")


class Reads(SynchronousTestCase):
    def check(self, data: bytes, client: Peer | None) -> None:
        self.assertEqual(read(data), Header(client, len(data)))
        self.assertEqual(read(data + b"\x00\x00\x00\x02{}"), Header(client, len(data)))

    def refuse(self, data: bytes, reason: str = "malformed") -> None:
        self.assertEqual(self.assertRaises(BadHeader, read, data).reason, reason, data)


class VersionOne(Reads):
    """Section 2.1."""

    def test_the_example(self) -> None:
        self.check(
            b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
            Peer("192.168.0.1", 56324),
        )

    def test_the_longest_lines(self) -> None:
        for line, length, client in (
            (
                v1("TCP4", "255.255.255.255", "255.255.255.255", "65535", "65535"),
                56,
                Peer("255.255.255.255", 65535),
            ),
            (
                v1("TCP6", FULL_V6, FULL_V6, "65535", "65535"),
                104,
                Peer(FULL_V6, 65535),
            ),
            (v1("UNKNOWN"), 15, None),
            (v1("UNKNOWN", FULL_V6, FULL_V6, "65535", "65535"), 107, None),
        ):
            self.assertEqual(len(line), length)
            self.check(line, client)

    def test_ipv6_as_it_may_be_written(self) -> None:
        for text in ("2001:db8::7", "2001:DB8::7", "::", "::1", "::ffff:192.0.2.7"):
            self.check(v1("TCP6", text, "::1", "0", "1"), Peer(text, 0))

    def test_unknown_is_the_senders_own(self) -> None:
        for rest in ("", " ", " anything goes", " \r and \n too", " TCP4 192.0.2.7 192.0.2.1 1 2"):
            self.check(f"PROXY UNKNOWN{rest}\r\n".encode(), None)

    def test_addresses_in_no_canonical_form(self) -> None:
        for address in (
            "192.0.2.07",
            "192.0.2.256",
            "192.0.2",
            "3221225991",
            "0xc0000207",
            "::1",
            "+1.2.3.4",
            "localhost",
            "192.0.2.7/32",
            "192.0.2.\u0667",
            "192.0.2.7\0",
        ):
            for line in (f"{address} 192.0.2.1", f"192.0.2.1 {address}"):
                self.refuse(f"PROXY TCP4 {line} 1 2\r\n".encode())

    def test_ipv6_addresses_that_are_none(self) -> None:
        for address in ("192.0.2.7", "1::2::3", "12345::", "fe80::1%eth0", ":", FULL_V6 + ":1"):
            self.refuse(f"PROXY TCP6 {address} ::1 1 2\r\n".encode())
            self.refuse(f"PROXY TCP6 ::1 {address} 1 2\r\n".encode())

    def test_ports_that_are_none(self) -> None:
        for port in ("65536", "99999", "00", "01", "-1", "+1", "1 ", "", "1e3", "0x1", "123456"):
            self.refuse(f"PROXY TCP4 192.0.2.7 192.0.2.1 {port} 2\r\n".encode())
            self.refuse(f"PROXY TCP4 192.0.2.7 192.0.2.1 2 {port}\r\n".encode())

    def test_exactly_one_space(self) -> None:
        good = b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n"
        read(good)
        for at in (index for index, byte in enumerate(good) if byte == ord(" ")):
            self.refuse(good[:at] + b" " + good[at:])
            self.refuse(good[:at] + b"\t" + good[at + 1 :])
            self.refuse(good[:at] + good[at + 1 :])

    def test_other_families(self) -> None:
        for family in ("UDP4", "TCP5", "tcp4", "UNKNOWNS", "", "TCP", "TCP46"):
            self.refuse(v1(family, "192.0.2.7", "192.0.2.1", "1", "2"))

    def test_something_missing_or_too_much(self) -> None:
        whole = ["192.0.2.7", "192.0.2.1", "1", "2"]
        for length in range(4):
            self.refuse(v1("TCP4", *whole[:length]))
        self.refuse(v1("TCP4", *whole, "3"))

    def test_only_both_end_a_line(self) -> None:
        line = b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2"
        for end in (b"\r", b"\n", b"\n\r"):
            self.assertIsNone(read(line + end))
            self.refuse(line + end + b"\r\n")

    def test_line_without_end(self) -> None:
        line = b"PROXY UNKNOWN " + b"x" * 200
        self.assertIsNone(read(line[:106]))
        self.refuse(line[:107], "too_long")
        self.refuse(line[:106] + b"\r\n", "too_long")
        self.check(line[:105] + b"\r\n", None)


class VersionTwo(Reads):
    """Section 2.2."""

    def test_ipv4(self) -> None:
        self.check(
            bytes.fromhex("0D0A0D0A 000D0A51 5549540A 21 11 000C C0000207 C0000201 DC04 01BB"),
            Peer("192.0.2.7", 56324),
        )

    def test_ipv6(self) -> None:
        self.check(
            bytes.fromhex(
                "0D0A0D0A 000D0A51 5549540A 21 21 0024 20010DB8000000000000000000000007"
                "20010DB8000000000000000000000001 DC04 01BB"
            ),
            Peer("2001:db8::7", 56324),
        )

    def test_what_is_not_tcp_counts_as_unspecified(self) -> None:
        for family, size in ((0x12, 12), (0x22, 36), (0x31, 216), (0x32, 216)):
            self.check(v2(PROXY, family, b"\x01" * size), None)

    def test_unspecified(self) -> None:
        for family in (0x00, 0x01, 0x02, 0x10, 0x20, 0x30):
            for block in (b"", tcp4("192.0.2.7", 1)):
                self.check(v2(PROXY, family, block), None)

    def test_local_is_the_senders_own_whatever_else_is_said(self) -> None:
        for family in (0x00, TCP4, 0xFF):
            for block in (b"", b"\xff", tcp4("192.0.2.7", 1)):
                self.check(v2(LOCAL, family, block), None)

    def test_further_fields_are_skipped(self) -> None:
        for fields in (b"\x04\x00\x00", b"\x03\x00\x04\xde\xad\xbe\xef", b"\xff", b"\x04\xff\xff"):
            block = tcp4("192.0.2.7", 1) + fields
            self.check(v2(PROXY, TCP4, block), Peer("192.0.2.7", 1))

    def test_up_to_a_bound(self) -> None:
        room = LONGEST_V2 - 16 - 12
        longest = v2(PROXY, TCP4, tcp4("192.0.2.7", 1) + b"\x04" * room)
        self.assertEqual(len(longest), LONGEST_V2)
        self.check(longest, Peer("192.0.2.7", 1))

    def test_beyond_it_at_once(self) -> None:
        self.refuse(v2(PROXY, TCP4, b"", LONGEST_V2 - 15), "too_long")
        self.refuse(v2(LOCAL, 0, b"", 0xFFFF), "too_long")

    def test_no_room_for_its_addresses(self) -> None:
        for family, size in ((0x11, 12), (0x12, 12), (0x21, 36), (0x22, 36), (0x31, 216)):
            self.refuse(v2(PROXY, family, b"\x01" * 11, size - 1))

    def test_other_versions_and_commands(self) -> None:
        for command in set(range(256)) - {LOCAL, PROXY}:
            self.refuse(v2(command, TCP4, tcp4("192.0.2.7", 1)))
            self.refuse(SIGNATURE + bytes([command]))

    def test_other_families_and_transports(self) -> None:
        named = {family << 4 | transport for family in range(4) for transport in range(3)}
        for family in set(range(256)) - named:
            self.refuse(v2(PROXY, family, b"\x01" * 216))


class Neither(Reads):
    def test_what_clients_of_other_protocols_begin_with(self) -> None:
        for data in (
            b"\x00\x00\x00\x12",
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01\x02\x00",
            b"proxy TCP4 ",
            b"PROXY\r\n",
            b"PROXYTCP4",
        ):
            self.refuse(data)

    def test_known_by_the_first_byte_that_is_wrong(self) -> None:
        for beginning in (SIGNATURE, b"PROXY "):
            for at in range(len(beginning)):
                self.assertIsNone(read(beginning[:at]))
                for wrong in (beginning[at] ^ 0x01, beginning[at] ^ 0x80):
                    self.refuse(beginning[:at] + bytes([wrong]))

    def test_signature_without_its_end(self) -> None:
        for length in range(16):
            self.assertIsNone(read(v2(PROXY, TCP4, b"")[:length]))


fields = st.binary(max_size=300)


@st.composite
def headers(draw: st.DrawFn) -> tuple[bytes, Peer | None]:
    """A good header of either version, and whom it names."""
    if draw(st.booleans()):
        return draw(st.sampled_from([LOCAL_V2, UNSPECIFIED_V2, v1("UNKNOWN")])), None
    address, port = draw(st.ip_addresses()), draw(st.integers(0, 65535))
    version = socket.AF_INET if address.version == 4 else socket.AF_INET6
    host = socket.inet_ntop(version, address.packed)
    server = "192.0.2.1" if address.version == 4 else "2001:db8::1"
    if draw(st.booleans()):
        return v1(f"TCP{address.version}", host, server, str(port), "443"), Peer(host, port)
    family, block = (TCP4, tcp4) if address.version == 4 else (TCP6, tcp6)
    return v2(PROXY, family, block(host, port) + draw(fields)), Peer(host, port)


@st.composite
def rubbish(draw: st.DrawFn) -> bytes:
    """Bytes that are a header, or were one before something of it was changed."""
    data, _ = draw(headers())
    at = draw(st.integers(0, len(data)))
    return data[:at] + draw(st.binary(max_size=20)) + data[draw(st.integers(at, len(data))) :]


class Always(SynchronousTestCase):
    @given(headers(), st.binary(max_size=100))
    def test_read_back_when_all_is_there_and_not_before(
        self, header: tuple[bytes, Peer | None], rest: bytes
    ) -> None:
        data, client = header
        self.assertEqual(read(data + rest), Header(client, len(data)))
        for length in range(len(data)):
            self.assertIsNone(read(data[:length]))

    @given(st.one_of(st.binary(), rubbish()), st.data())
    def test_any_bytes_in_any_pieces(self, data: bytes, draw: st.DataObject) -> None:
        """What was decided stays so, whatever comes after it; nothing else is ever raised."""
        cut = draw.draw(st.integers(0, len(data)))
        early, late = self.outcome(data[:cut]), self.outcome(data)
        if early is not None:
            self.assertEqual(early, late)

    @given(st.sampled_from([SIGNATURE + b"\x21\x11", SIGNATURE, b"PROXY UNKNOWN "]), st.binary())
    def test_decided_within_its_bound(self, beginning: bytes, more: bytes) -> None:
        data = (beginning + more).ljust(LONGEST_V2, b"\x07")
        self.assertIsNotNone(self.outcome(data))

    def outcome(self, data: bytes) -> Header | str | None:
        try:
            return read(data)
        except BadHeader as bad:
            return bad.reason
