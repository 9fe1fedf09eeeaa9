"""
Packets of some clients, dropped by the kernel before they cost anything.

A program for the kernel's filter of packets (L{wow.bpf}), attached to a
listening socket. Linux runs it for each packet to that socket, so an attempt
to connect ends there, and costs its receiver's process nothing. Newer kernels
want C{CAP_NET_ADMIN} for that on a TCP socket; to detach one needs nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from errno import ENOENT

from wow import bpf
from wow.bpf import do

MOST = 256
"""
Prefixes that a program is made for, at most. The kernel takes 4096
instructions; and older ones have 20 KiB for a socket's program, in their own
form: at most 40 bytes an IPv4 prefix, and 64 an IPv6 prefix of 64 bits.
"""

_ATTACH, _DETACH = 26, 27
"""C{SO_ATTACH_FILTER} and C{SO_DETACH_FILTER}, which Python has no names for."""

_KEEP, _DROP = 0xFFFFFFFF, 0
"""How much of a packet to keep, in bytes."""


def assemble(prefixes: Collection[bytes], bits: tuple[int, int]) -> bytes:
    """
    Make the program that drops what these clients send, and nothing else.

    @param prefixes: as L{wow.pow.token.bind} gives them; C{MOST} at most. One
        of no address is left out.
    @param bits: how many bits of an IPv4 and of an IPv6 address are a prefix's.
    """
    return bpf.by_family(_family(4, bits[0], prefixes), _family(16, bits[1], prefixes))


def _family(size: int, bits: int, prefixes: Collection[bytes]) -> bytes:
    # To load a word of a packet is a call, to recall one is not.
    loads = bpf.load_source(size, bits)
    remember = [load + do(bpf.STORE, index) for index, load in enumerate(loads)]
    drops = [_drop(bpf.words(p[1:])[: len(loads)]) for p in prefixes if p[0] == size]
    return b"".join((*remember, *drops, do(bpf.RETURN, _KEEP)))


def _drop(words: list[int]) -> bytes:
    # The last word first: it tells neighbours apart.
    code = do(bpf.RETURN, _DROP)
    for index, word in enumerate(words):
        code = do(bpf.JUMP_IF_EQUAL, word, 0, bpf.length(code)) + code
        code = do(bpf.RECALL, index) + code
    return code


def attach(listening: socket.socket, program: bytes) -> None:
    """
    Have a program run for each packet to a socket, in place of the one before.
    Connections accepted from now on inherit it for good.

    @raise OSError: if that is not possible here.
    """
    # Otherwise both would have to fit into the kernel's bound on their size.
    detach(listening)
    bpf.give(listening, _ATTACH, program)


def detach(listening: socket.socket) -> None:
    """
    Have no program run for a socket, as before.

    @raise OSError: if that is not possible here.
    """
    bpf.check_platform()
    try:
        listening.setsockopt(socket.SOL_SOCKET, _DETACH, 0)
    except OSError as error:
        if error.errno != ENOENT:
            raise
