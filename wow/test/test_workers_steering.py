"""Whom the kernel is told to send where, by a program run by a machine of a few lines."""

from __future__ import annotations

import io
import json
import socket
import sys
from collections import Counter
from ipaddress import ip_address
from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wow.config import load
from wow.doors import Door, Doors
from wow.endpoint import parse
from wow.logs import make_logger
from wow.pow.token import bind
from wow.test.bpf_machine import INSTRUCTION, addresses, packet, program_in, run, widths
from wow.workers import steering
from wow.workers.steering import SALT_BYTES, Steering, assemble, steer

SALT = bytes(range(SALT_BYTES))

LIMITS = load(None, {}).limits

salts = st.binary(min_size=SALT_BYTES, max_size=SALT_BYTES)


def worker_of(
    source: str, workers: int = 4, bits: tuple[int, int] = (24, 48), salt: bytes = SALT
) -> int:
    return run(assemble(workers, bits, salt), packet(ip_address(source).packed))


class Programs(SynchronousTestCase):
    @given(st.integers(1, 256), addresses, widths, salts)
    def test_name_one_of_the_workers(
        self, workers: int, source: bytes, bits: tuple[int, int], salt: bytes
    ) -> None:
        self.assertIn(run(assemble(workers, bits, salt), packet(source)), range(workers))

    @given(addresses, addresses, widths, salts)
    def test_tell_networks_apart_and_nobody_within(
        self, one: bytes, other: bytes, bits: tuple[int, int], salt: bytes
    ) -> None:
        # With so many workers, all but one in billions have another each.
        program = assemble(2**32 - 5, bits, salt)
        for source in (one, other):
            network = bind(source, *bits)[1:]
            self.assertEqual(run(program, packet(source)), run(program, packet(network)))
        if len(one) == len(other) and bind(one, *bits) != bind(other, *bits):
            self.assertNotEqual(run(program, packet(one)), run(program, packet(other)))

    def test_neighbours_meet(self) -> None:
        for network in ("192.0.{}.{}", "2001:db8:{:x}:{:x}::1"):
            for number in range(20):
                met = {worker_of(network.format(number, host)) for host in range(256)}
                self.assertEqual(len(met), 1)

    def spread(self, network: str, salt: bytes = SALT) -> Counter[int]:
        """How many of 256 networks in a row go to each of four workers."""
        return Counter(worker_of(network.format(number), salt=bytes(salt)) for number in range(256))

    def test_networks_in_a_row_are_spread(self) -> None:
        for network in ("10.0.{}.1", "10.{}.0.1", "{}.0.0.1", "2001:db8:{:x}::1", "2001:{:x}::"):
            shares = self.spread(network)
            self.assertGreater(min(shares.values()), 256 / 4 / 2, (network, shares))
            self.assertLess(max(shares.values()), 256 / 4 * 2, (network, shares))

    def test_another_salt_spreads_otherwise(self) -> None:
        # The salts between are for words of an address that no network has here.
        for index in (*range(8), *range(16, SALT_BYTES)):
            salt = bytearray(SALT)
            salt[index] ^= 0x80
            network = "2001:db8:{:x}::1"
            same = sum(
                worker_of(network.format(number))
                == worker_of(network.format(number), salt=bytes(salt))
                for number in range(256)
            )
            self.assertLess(same, 128, index)

    def test_all_of_an_address_may_count(self) -> None:
        met = {worker_of(f"2001:db8::{host:x}", bits=(32, 128)) for host in range(64)}
        self.assertEqual(met, set(range(4)))

    def test_the_kernel_takes_the_longest(self) -> None:
        self.assertLessEqual(len(assemble(256, (32, 128), SALT)) // INSTRUCTION.size, 4096)


class FakeSocket(socket.socket):
    """
    @ivar program: what it was given to choose by.
    """

    program: bytes | None = None

    def setsockopt(self, level: int, name: int, value: object, length: int = 0) -> None:
        assert (level, name) == (socket.SOL_SOCKET, 51)
        assert isinstance(value, bytes)
        self.program = program_in(value)


class OneSocket(SynchronousTestCase):
    def setUp(self) -> None:
        self.listening = FakeSocket()
        self.addCleanup(self.listening.close)

    def test_gives_the_socket_the_program(self) -> None:
        program = assemble(2, (24, 48), SALT)
        steer(self.listening, program)
        self.assertEqual(self.listening.program, program)

    def test_elsewhere_nothing_is_touched(self) -> None:
        self.patch(sys, "platform", "darwin")
        self.assertRaises(OSError, steer, self.listening, assemble(2, (24, 48), SALT))
        self.assertIsNone(self.listening.program)


class Server(SynchronousTestCase):
    """All the doors of one."""

    def setUp(self) -> None:
        self.programs: list[tuple[Any, bytes]] = []
        self.patch(steering, "steer", lambda each, program: self.programs.append((each, program)))
        self.logged = io.StringIO()

    def steered(self, *endpoints: str, sockets: int = 3, family: int = socket.AF_INET) -> Steering:
        parsed = {f"listen.{index}": parse(text) for index, text in enumerate(endpoints)}
        doors = {key: self.door(sockets, family) for key in parsed}
        log = make_logger(self.logged, "info", "json")
        made = Steering(Doors(doors), parsed, 3, LIMITS, SALT, log)
        made.startService()
        return made

    def door(self, sockets: int, family: int) -> Door:
        made = [socket.socket(family) for _ in range(sockets)]
        for each in made:
            self.addCleanup(each.close)
        self.first = made[0]
        return Door(tuple(made))

    def test_by_network(self) -> None:
        self.steered("tcp:7777")
        program = assemble(3, (LIMITS.network_v4, LIMITS.network_v6), SALT)
        self.assertEqual(self.programs, [(self.first, program)])

    def test_by_client_where_networks_have_no_limits(self) -> None:
        self.steered("tcp:7777").steer(LIMITS.model_copy(update={"network_share": 0}))
        program = assemble(3, (LIMITS.prefix_v4, LIMITS.prefix_v6), SALT)
        self.assertEqual(self.programs[1:], [(self.first, program)])

    def test_not_what_comes_from_a_balancer_or_has_no_address(self) -> None:
        self.steered("haproxy:tcp:7777", "haproxy:ssl:7778")
        self.steered("unix:/run/wow.sock", sockets=1, family=socket.AF_UNIX)
        self.assertEqual((self.programs, self.logged.getvalue()), ([], ""))

    def test_not_at_a_socket_that_is_shared_and_that_is_told(self) -> None:
        self.steered("systemd:domain=INET:index=0", sockets=1)
        self.assertEqual(self.programs, [])
        event = json.loads(self.logged.getvalue())
        self.assertEqual(event["event"], "not_steered")
        self.assertIn("share", event["reason"])

    def test_where_the_kernel_does_not_all_goes_on(self) -> None:
        refused = OSError(1, "Operation not permitted")
        with mock.patch.object(steering, "steer", side_effect=refused):
            self.steered("tcp:7777")
        self.assertIn("not permitted", json.loads(self.logged.getvalue())["reason"])
