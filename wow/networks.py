"""
A set of networks, for lists of who is allowed and who is denied.

Looking an address up takes one step for each length of prefix that occurs,
however many networks there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import AddressValueError, IPv4Network, IPv6Network, NetmaskValueError
from typing import Any

from wow.pow.token import text_of

_MAPPED_BITS = 96
"""How long the prefix ::ffff:0:0 is, under which IPv6 has the IPv4 addresses."""


class Networks:
    """
    A set of IPv4 and IPv6 networks. An IPv4-mapped IPv6 network is the IPv4
    one; a wider IPv6 network holds no IPv4 address.
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        """
        @param networks: such as C{192.0.2.0/24}, C{2001:db8::/32} or, for a
            single address, C{198.51.100.7}.
        @raise ValueError: if one is not; see L{check}.
        """
        # By bytes of an address, then by bits that do not count: the rest of
        # the bits, as a number.
        self._prefixes: dict[int, dict[int, set[int]]] = {}
        for text in networks:
            self._add(_parse(text))

    def _add(self, network: IPv4Network | IPv6Network) -> None:
        host_bits = network.max_prefixlen - network.prefixlen
        lengths = self._prefixes.setdefault(network.max_prefixlen // 8, {})
        lengths.setdefault(host_bits, set()).add(int(network.network_address) >> host_bits)

    def __contains__(self, address: Any) -> bool:
        """
        Whether an address is in one of the networks.

        @param address: packed, with an IPv4-mapped one as 4 bytes. What has
            another length is in none.
        """
        lengths = self._prefixes.get(len(address))
        if lengths is None:
            return False
        number = int.from_bytes(address, "big")
        # A generator in any() would cost more than what it does.
        for host_bits, prefixes in lengths.items():  # noqa: SIM110
            if number >> host_bits in prefixes:
                return True
        return False

    def __len__(self) -> int:
        """How many different networks there are; one within another counts too."""
        return sum(
            len(prefixes) for lengths in self._prefixes.values() for prefixes in lengths.values()
        )

    def __bool__(self) -> bool:
        return bool(self._prefixes)


def show(prefix: bytes, bits: tuple[int, int]) -> str:
    """
    A client as a list of networks has it.

    @param prefix: of its address, as tokens are bound.
    @param bits: how many bits of an IPv4 and of an IPv6 address make a client.
    """
    address = prefix[1:]
    length = bits[0] if len(address) == 4 else bits[1]
    whole = length == 8 * len(address) or not address
    return text_of(address) if whole else f"{text_of(address)}/{length}"


def check(text: str) -> str:
    """
    Check the text of a network.

    @return: the same text.
    @raise ValueError: if it is no network. The message says what to write instead.
    """
    _parse(text)
    return text


def _parse(text: str) -> IPv4Network | IPv6Network:
    if "%" in text:
        # Addresses are looked up without theirs, so it would hold for every link.
        raise ValueError(f"{text!r} has a zone; leave out the % and what is after it")
    try:
        return _read(text)
    except (AddressValueError, NetmaskValueError) as error:
        raise ValueError(
            f"{text!r} is no network ({error}); write one as 192.0.2.0/24 or 2001:db8::/32, "
            "and a single address as 198.51.100.7"
        ) from None
    except ValueError:
        meant = _read(text, strict=False)
        raise ValueError(f"{text} has host bits set; did you mean {meant}?") from None


def _read(text: str, strict: bool = True) -> IPv4Network | IPv6Network:
    if ":" not in text:
        return IPv4Network(text, strict)
    network = IPv6Network(text, strict)
    mapped = network.network_address.ipv4_mapped
    if mapped is None or network.prefixlen < _MAPPED_BITS:
        return network
    return IPv4Network((int(mapped), network.prefixlen - _MAPPED_BITS))
