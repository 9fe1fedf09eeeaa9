"""A machine of a few lines that runs programs of L{wow.bpf}, and packets to run them for."""

from __future__ import annotations

import ctypes
import struct

from hypothesis import strategies as st

INSTRUCTION = struct.Struct("=HBBI")

NETWORK_HEADER = 2**32 - 0x100000


def run(program: bytes, packet: bytes) -> int:
    """
    Run a program as the kernel would.

    @param packet: from its IP header on.
    @return: what the program does.
    """
    code = list(INSTRUCTION.iter_unpack(program))
    value, index, memory, at = 0, 0, [0] * 16, 0
    while True:
        operation, if_true, if_false, operand = code[at]
        at += 1
        match operation:
            case 0x02:
                memory[operand] = value
            case 0x05:
                at += operand
            case 0x06:
                return int(operand)
            case 0x07:
                index = value
            case 0x15:
                at += if_true if value == operand else if_false
            case 0x16:
                return value
            case 0x61:
                index = memory[operand]
            case 0xAC:
                value ^= index
            case _:
                value = _compute(operation, operand, value, memory, packet)


def _compute(operation: int, operand: int, value: int, memory: list[int], packet: bytes) -> int:
    """What an instruction makes of the value before it."""
    start = operand - NETWORK_HEADER
    return {
        0x20: lambda: int.from_bytes(packet[start : start + 4], "big"),
        0x24: lambda: value * operand % 2**32,
        0x30: lambda: packet[start],
        0x54: lambda: value & operand,
        0x60: lambda: memory[operand],
        0x74: lambda: value >> operand,
        0x94: lambda: value % operand,
        0xA4: lambda: value ^ operand,
    }[operation]()


def packet(source: bytes) -> bytes:
    """The IP header of a packet from a packed address, to one like it."""
    if len(source) == 4:
        return b"\x45" + bytes(11) + source + source[::-1]
    return b"\x60" + bytes(7) + source + source[::-1]


def program_in(value: bytes) -> bytes:
    """The program in what a socket is given as one."""
    length, address = struct.unpack("HP", value)
    return ctypes.string_at(address, length * INSTRUCTION.size)


addresses = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)

widths = st.tuples(st.integers(1, 32), st.integers(1, 128))
"""How many bits of an IPv4 and of an IPv6 address count."""
