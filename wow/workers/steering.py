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
from struct import unpack

from wow import bpf
from wow.bpf import do

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
