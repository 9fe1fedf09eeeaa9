"""
Programs that the kernel runs for each packet: classic BPF, as far as wow needs
it (Linux's C{Documentation/networking/filter.rst}, McCanne and Jacobson 1993).

Such a program has an accumulator, an index register and 16 words of memory. A
conditional jump skips up to 255 instructions, and backwards nothing goes.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from errno import ENOPROTOOPT

INSTRUCTION = struct.Struct("=HBBI")

LOAD_BYTE, LOAD_WORD = 0x30, 0x20
STORE, RECALL, RECALL_INDEX = 0x02, 0x60, 0x61
AND, SHIFT_RIGHT, MULTIPLY, XOR, REMAINDER = 0x54, 0x74, 0x24, 0xA4, 0x94
COPY_TO_INDEX, XOR_INDEX = 0x07, 0xAC
JUMP, JUMP_IF_EQUAL = 0x05, 0x15
RETURN, RETURN_ACCUMULATOR = 0x06, 0x16

NETWORK_HEADER = -0x100000 & 0xFFFFFFFF
"""Where the packet's IP header is. By itself a program sees what TCP sees."""

_SOURCE = {4: 12, 16: 8}
"""Where the header has its sender's address, by the length of that, in bytes."""


def do(code: int, operand: int = 0, if_true: int = 0, if_false: int = 0) -> bytes:
    """
    One instruction.

    @param if_true: how many instructions a conditional jump skips, if so.
    @param if_false: and if not.
    """
    return INSTRUCTION.pack(code, if_true, if_false, operand)


def length(program: bytes) -> int:
    """How many instructions a program has."""
    return len(program) // INSTRUCTION.size


def by_family(v4: bytes, v6: bytes) -> bytes:
    """
    One program for packets of IPv4, another for the rest.

    @param v4: ends by itself, without falling into the other.
    """
    return b"".join(
        (
            do(LOAD_BYTE, NETWORK_HEADER),
            do(SHIFT_RIGHT, 4),
            do(JUMP_IF_EQUAL, 4, 1, 0),
            # This one jumps far enough for any program, the conditional ones do not.
            do(JUMP, length(v4)),
            v4,
            v6,
        )
    )


def load_source(size: int, bits: int) -> list[bytes]:
    """
    Load the beginning of the sender's address, word by word.

    @param size: bytes of an address.
    @param bits: how many of it to look at. The rest of the last word is zeroed.
    @return: the instructions that bring each word into the accumulator.
    """
    masks = words((2**bits - 1 << 8 * size - bits).to_bytes(size, "big"))
    return [
        do(LOAD_WORD, NETWORK_HEADER + _SOURCE[size] + 4 * index) + do(AND, mask)
        for index, mask in enumerate(masks)
        if mask
    ]


def words(address: bytes) -> list[int]:
    """A packed address as words of 32 bits."""
    return list(struct.unpack(f">{len(address) // 4}I", address))


def give(listening: socket.socket, option: int, program: bytes) -> None:
    """
    Give a socket a program.

    @param option: of C{SOL_SOCKET}; it says what the program is for.
    @raise OSError: if that is not possible here.
    """
    check_platform()
    code = ctypes.create_string_buffer(program, len(program))
    listening.setsockopt(
        socket.SOL_SOCKET, option, struct.pack("HP", length(program), ctypes.addressof(code))
    )


def check_platform() -> None:
    """
    @raise OSError: where the numbers of the options may mean something else.
    """
    if sys.platform != "linux":
        raise OSError(ENOPROTOOPT, "this system runs no programs of a socket's")
