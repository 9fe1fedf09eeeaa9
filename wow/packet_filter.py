"""
Packets of some clients, dropped by the kernel before they cost anything.

A program for the kernel's filter of packets (classic BPF: Linux's
C{Documentation/networking/filter.rst}, McCanne and Jacobson 1993), attached to
a listening socket. Linux runs it for each packet to that socket, so an attempt
to connect ends there, and costs its receiver's process nothing. Newer kernels
want C{CAP_NET_ADMIN} for that on a TCP socket; to detach one needs nothing.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from collections.abc import Collection
from errno import ENOENT, ENOPROTOOPT

MOST = 256
"""
Prefixes that a program is made for, at most. The kernel takes 4096
instructions; and older ones have 20 KiB for a socket's program, in their own
form: at most 40 bytes an IPv4 prefix, and 64 an IPv6 prefix of 64 bits.
"""

_ATTACH, _DETACH = 26, 27
"""C{SO_ATTACH_FILTER} and C{SO_DETACH_FILTER}, which Python has no names for."""

_INSTRUCTION = struct.Struct("=HBBI")
_LOAD_BYTE, _LOAD_WORD, _RECALL, _STORE = 0x30, 0x20, 0x60, 0x02
_AND, _SHIFT_RIGHT, _JUMP, _JUMP_IF_EQUAL, _RETURN = 0x54, 0x74, 0x05, 0x15, 0x06

_NETWORK_HEADER = -0x100000 & 0xFFFFFFFF
"""Where the packet's IP header is. By itself the program sees what TCP sees."""

_SOURCE = {4: 12, 16: 8}
"""Where the header has its sender's address, by the length of that, in bytes."""

_KEEP, _DROP = 0xFFFFFFFF, 0
"""How much of a packet to keep, in bytes."""


def assemble(prefixes: Collection[bytes], bits: tuple[int, int]) -> bytes:
    """
    Make the program that drops what these clients send, and nothing else.

    @param prefixes: as L{wow.pow.token.bind} gives them; C{MOST} at most. One
        of no address is left out.
    @param bits: how many bits of an IPv4 and of an IPv6 address are a prefix's.
    """
    v4 = _family(4, bits[0], prefixes)
    v6 = _family(16, bits[1], prefixes)
    return b"".join(
        (
            _do(_LOAD_BYTE, _NETWORK_HEADER),
            _do(_SHIFT_RIGHT, 4),
            _do(_JUMP_IF_EQUAL, 4, 1, 0),
            # This one jumps far enough for any program, the conditional ones do not.
            _do(_JUMP, len(v4) // _INSTRUCTION.size),
            v4,
            v6,
        )
    )


def _do(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    # The last two say how many instructions a conditional jump skips.
    return _INSTRUCTION.pack(code, if_true, if_false, operand)


def _family(size: int, bits: int, prefixes: Collection[bytes]) -> bytes:
    # To load a word of a packet is a call, to recall one is not.
    masks = _words((2**bits - 1 << 8 * size - bits).to_bytes(size, "big"))
    masks = [mask for mask in masks if mask]
    remember = [
        _do(_LOAD_WORD, _NETWORK_HEADER + _SOURCE[size] + 4 * index)
        + _do(_AND, mask)
        + _do(_STORE, index)
        for index, mask in enumerate(masks)
    ]
    drops = [_drop(_words(p[1:])[: len(masks)]) for p in prefixes if p[0] == size]
    return b"".join((*remember, *drops, _do(_RETURN, _KEEP)))


def _drop(words: list[int]) -> bytes:
    # The last word first: it tells neighbours apart.
    code = _do(_RETURN, _DROP)
    for index, word in enumerate(words):
        code = _do(_JUMP_IF_EQUAL, word, 0, len(code) // _INSTRUCTION.size) + code
        code = _do(_RECALL, index) + code
    return code


def _words(address: bytes) -> list[int]:
    return list(struct.unpack(f">{len(address) // 4}I", address))


def attach(listening: socket.socket, program: bytes) -> None:
    """
    Have a program run for each packet to a socket, in place of the one before.
    Connections accepted from now on inherit it for good.

    @raise OSError: if that is not possible here.
    """
    _check_platform()
    # Otherwise both would have to fit into the kernel's bound on their size.
    detach(listening)
    code = ctypes.create_string_buffer(program, len(program))
    length = len(program) // _INSTRUCTION.size
    listening.setsockopt(
        socket.SOL_SOCKET, _ATTACH, struct.pack("HP", length, ctypes.addressof(code))
    )


def detach(listening: socket.socket) -> None:
    """
    Have no program run for a socket, as before.

    @raise OSError: if that is not possible here.
    """
    _check_platform()
    try:
        listening.setsockopt(socket.SOL_SOCKET, _DETACH, 0)
    except OSError as error:
        if error.errno != ENOENT:
            raise


def _check_platform() -> None:
    # To others these numbers may mean something else.
    if sys.platform != "linux":
        raise OSError(ENOPROTOOPT, "this system filters no packets of a socket")
