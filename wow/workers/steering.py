"""
Which worker a client's connections go to: always the same one.

So what is known of a client or a network is known by one worker, and limits
hold for the whole server with nothing shared. The kernel asks a program
(L{wow.bpf}) at which of the listening sockets of a port a connection is to
wait; it names the one by a hash of the sender's network. The hash is salted,
so that nobody can aim at one worker, and knows who else is there.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from struct import unpack

from structlog.typing import FilteringBoundLogger
from twisted.application.service import Service

from wow import bpf
from wow.bpf import do
from wow.config import Limits
from wow.doors import Door, Doors
from wow.endpoint import Endpoint

SALT_BYTES = 20

_ATTACH = 51
"""C{SO_ATTACH_REUSEPORT_CBPF}, which Python has no name for."""


def assemble(workers: int, bits: tuple[int, int], salt: bytes) -> bytes:
    """
    Make the program that says which worker, counted from 0, a packet is for.

    @param bits: how many bits of an IPv4 and of an IPv6 address tell networks
        apart. An IPv4 client of an IPv6 socket sends IPv4 packets.
    @param salt: C{SALT_BYTES} that nobody knows.
    """
    name = do(bpf.REMAINDER, workers) + do(bpf.RETURN_ACCUMULATOR)
    return bpf.by_family(_hash(4, bits[0], salt) + name, _hash(16, bits[1], salt) + name)


def _hash(size: int, bits: int, salt: bytes) -> bytes:
    first, *rest = bpf.load_source(size, bits)
    salts = unpack("=5I", salt)
    code = first + _mix(salts[0])
    for load, word_salt in zip(rest, salts[1:], strict=False):
        code += do(bpf.STORE, 0) + load
        code += do(bpf.RECALL_INDEX, 0) + do(bpf.XOR_INDEX) + _mix(word_salt)
    # Once more, so that the first salt cannot be told from what came of it.
    return code + _mix(salts[4])


def _mix(salt: int) -> bytes:
    # The end of MurmurHash3: each bit turns every other with an even chance.
    return b"".join(
        (
            do(bpf.XOR, salt),
            _fold(16),
            do(bpf.MULTIPLY, 0x85EBCA6B),
            _fold(13),
            do(bpf.MULTIPLY, 0xC2B2AE35),
            _fold(16),
        )
    )


def _fold(bits: int) -> bytes:
    return do(bpf.COPY_TO_INDEX) + do(bpf.SHIFT_RIGHT, bits) + do(bpf.XOR_INDEX)


def steer(listening: socket.socket, program: bytes) -> None:
    """
    Have a program choose among the sockets that listen on a port, in the order
    in which they began to, in place of the program before.

    @param listening: any one of them.
    @raise OSError: if that is not possible here.
    """
    bpf.give(listening, _ATTACH, program)


class Steering(Service):
    """Steers the clients of all doors of a server, as far as that is possible."""

    def __init__(
        self,
        doors: Doors,
        endpoints: Mapping[str, Endpoint],
        workers: int,
        limits: Limits,
        salt: bytes,
        log: FilteringBoundLogger,
    ) -> None:
        """
        @param doors: are opened before this is started.
        @param endpoints: theirs, by the same keys.
        @param workers: how many there are.
        @param limits: say what a client is, and a network.
        """
        self._doors = doors
        self._endpoints = endpoints
        self._workers = workers
        self._limits = limits
        self._salt = salt
        self._log = log

    def startService(self) -> None:
        super().startService()
        self.steer(self._limits)

    def steer(self, limits: Limits) -> None:
        """Steer them by new limits."""
        bits = (limits.network_v4, limits.network_v6)
        if not limits.network_share:
            bits = (limits.prefix_v4, limits.prefix_v6)
        program = assemble(self._workers, bits, self._salt)
        for key, door in self._doors.opened.items():
            # Who comes from a balancer has its address for the kernel.
            if door.tcp and not self._endpoints[key].proxied:
                self._steer(self._endpoints[key], door, program)

    def _steer(self, endpoint: Endpoint, door: Door, program: bytes) -> None:
        try:
            if len(door.sockets) < self._workers:
                raise OSError("the workers share one socket, which others opened")
            steer(door.sockets[0], program)
        except OSError as error:
            self._log.warning(
                "not_steered",
                endpoint=endpoint.text,
                reason=str(error),
                meaning="limits of clients and networks hold for each worker, not for all",
            )
