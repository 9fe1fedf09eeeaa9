"""The program that drops packets, run by a machine of a few lines."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from errno import ENOENT, EPERM
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wow.packet_filter import MOST, assemble, attach, detach
from wow.pow.token import UNBOUND, bind, pack
from wow.test.bpf_machine import INSTRUCTION, addresses, packet, program_in, run, widths

KEPT, DROPPED = 0xFFFFFFFF, 0


def drops(addresses: list[str], source: str, bits: tuple[int, int] = (32, 64)) -> bool:
    prefixes = [bind(pack(address), *bits) for address in addresses]
    return run(assemble(prefixes, bits), packet(ip_address(source).packed)) == DROPPED


# Few values a byte, so that many agree in their beginnings.
neighbours = st.sampled_from([4, 16]).flatmap(
    lambda size: st.lists(st.sampled_from([0, 1, 255]), min_size=size, max_size=size).map(bytes)
)


class Programs(SynchronousTestCase):
    @given(st.lists(addresses | neighbours, max_size=40), addresses | neighbours, widths)
    def test_drop_those_inside_and_nobody_else(
        self, offenders: list[bytes], source: bytes, bits: tuple[int, int]
    ) -> None:
        prefixes = {bind(offender, *bits) for offender in offenders}
        program = assemble(prefixes, bits)
        for sender in [source, *offenders]:
            expected = DROPPED if bind(sender, *bits) in prefixes else KEPT
            self.assertEqual(run(program, packet(sender)), expected)

    def test_ipv4(self) -> None:
        self.assertTrue(drops(["192.0.2.1", "192.0.2.3"], "192.0.2.3"))
        self.assertFalse(drops(["192.0.2.1", "192.0.2.3"], "192.0.2.2"))
        self.assertTrue(drops(["192.0.2.1"], "192.0.2.2", bits=(24, 64)))

    def test_ipv6(self) -> None:
        self.assertTrue(drops(["2001:db8::1"], "2001:db8::2"))
        self.assertFalse(drops(["2001:db8::1"], "2001:db8:0:1::1"))
        self.assertFalse(drops(["2001:db8::1"], "2001:db9::1"))

    def test_nobody(self) -> None:
        self.assertFalse(drops([], "192.0.2.1"))
        self.assertFalse(drops([], "2001:db8::1"))

    def test_one_of_no_address_is_left_out(self) -> None:
        self.assertEqual(assemble([UNBOUND], (32, 64)), assemble([], (32, 64)))

    def test_the_kernel_takes_the_longest(self) -> None:
        prefixes = [bind(number.to_bytes(16, "big"), 32, 128) for number in range(MOST)]
        self.assertLessEqual(len(assemble(prefixes, (32, 128))) // INSTRUCTION.size, 4096)


class FakeSocket(socket.socket):
    """
    Notes what is attached to it, and what is detached.

    @ivar programs: those attached; None where one was detached.
    @ivar refuses: the number of the error that detaching has, if any.
    """

    def __init__(self, refuses: int = 0) -> None:
        super().__init__()
        self.programs: list[bytes | None] = []
        self.refuses = refuses

    def setsockopt(self, level: int, name: int, value: object, length: int = 0) -> None:
        assert level == socket.SOL_SOCKET
        self.programs.append({26: self._read, 27: self._forget}[name](value))

    def _read(self, value: object) -> bytes:
        assert isinstance(value, bytes)
        return program_in(value)

    def _forget(self, value: object) -> None:
        if self.refuses:
            raise OSError(self.refuses, "refused")


class Attaching(SynchronousTestCase):
    def made(self, refuses: int = 0) -> FakeSocket:
        made = FakeSocket(refuses)
        self.addCleanup(made.close)
        return made

    def test_takes_the_place_of_the_one_before(self) -> None:
        listening = self.made()
        attach(listening, assemble([], (32, 64)))
        self.assertEqual(listening.programs, [None, assemble([], (32, 64))])

    def test_detaching_what_is_not_there_is_done(self) -> None:
        detach(self.made(ENOENT))

    def test_other_errors_are_told(self) -> None:
        self.assertRaises(OSError, detach, self.made(EPERM))

    def test_elsewhere_nothing_is_touched(self) -> None:
        self.patch(sys, "platform", "darwin")
        listening = self.made()
        calls: list[Callable[[], None]] = [
            lambda: attach(listening, assemble([], (32, 64))),
            lambda: detach(listening),
        ]
        for call in calls:
            self.assertRaises(OSError, call)
        self.assertEqual(listening.programs, [])
