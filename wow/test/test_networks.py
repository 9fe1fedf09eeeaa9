"""A set of networks holds the addresses that are in them, and bad ones are explained."""

from __future__ import annotations

from collections.abc import Container
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wow.networks import Networks, check, show
from wow.pow.token import bind, pack

# Few bits vary, so that addresses and networks meet.
numbers_v4 = st.integers(0, 7).map(lambda n: 0xC0000200 + (n << 6) + n)
numbers_v6 = st.integers(0, 7).map(lambda n: (0x20010DB8 << 96) + (n << 64) + n)
networks = st.lists(
    st.builds(lambda n, bits: IPv4Network((n, bits), strict=False), numbers_v4, st.integers(0, 32))
    | st.builds(
        lambda n, bits: IPv6Network((n, bits), strict=False), numbers_v6, st.integers(0, 128)
    ),
    max_size=8,
)
addresses = (
    st.one_of(numbers_v4, numbers_v6) | st.ip_addresses().map(int) | st.integers(0, 2**32 - 1)
).map(ip_address)


class Membership(SynchronousTestCase):
    def holds(self, networks: Container[bytes], *addresses: str) -> None:
        for address in addresses:
            self.assertIn(pack(address), networks, address)

    def lacks(self, networks: Container[bytes], *addresses: str) -> None:
        for address in addresses:
            self.assertNotIn(pack(address), networks, address)

    def test_network(self) -> None:
        networks = Networks(["192.0.2.0/24"])
        self.holds(networks, "192.0.2.0", "192.0.2.255")
        self.lacks(networks, "192.0.1.255", "192.0.3.0", "2001:db8::1")

    def test_ipv6_network(self) -> None:
        networks = Networks(["2001:db8::/32"])
        self.holds(networks, "2001:db8::", "2001:db8:ffff::1")
        self.lacks(networks, "2001:db7::", "2001:db9::", "32.1.13.184")

    def test_single_addresses(self) -> None:
        networks = Networks(["198.51.100.7", "2001:db8::1"])
        self.holds(networks, "198.51.100.7", "2001:db8::1")
        self.lacks(networks, "198.51.100.6", "198.51.100.8", "2001:db8::", "2001:db8::2")

    def test_whole_family(self) -> None:
        """All of IPv6 holds none of IPv4, nor the other way round."""
        self.holds(Networks(["0.0.0.0/0"]), "0.0.0.0", "255.255.255.255")
        self.lacks(Networks(["0.0.0.0/0"]), "::1")
        self.holds(Networks(["::/0"]), "::", "ffff::")
        self.lacks(Networks(["::/0"]), "0.0.0.1", "::ffff:0.0.0.1")

    def test_ipv6_network_wider_than_all_of_ipv4(self) -> None:
        """It holds no IPv4 address, though the IPv4-mapped ones are in it."""
        networks = Networks(["::fffe:0:0/95"])
        self.holds(networks, "::fffe:0:1")
        self.lacks(networks, "0.0.0.1", "::ffff:0.0.0.1", "192.0.2.1")

    def test_mapped_network_is_the_ipv4_one(self) -> None:
        networks = Networks(["::ffff:192.0.2.0/120", "::ffff:198.51.100.7"])
        self.holds(networks, "192.0.2.9", "::ffff:192.0.2.9", "198.51.100.7")
        self.lacks(networks, "192.0.3.9", "198.51.100.8")
        self.holds(Networks(["::ffff:0:0/96"]), "0.0.0.0", "203.0.113.1")

    def test_networks_within_networks(self) -> None:
        networks = Networks(["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "192.0.2.0/25"])
        self.holds(networks, "10.1.2.3", "10.1.9.9", "10.9.9.9", "192.0.2.127")
        self.lacks(networks, "11.0.0.0", "192.0.2.128")

    def test_what_has_no_address_is_in_none(self) -> None:
        self.lacks(Networks(["0.0.0.0/0", "::/0"]))
        self.assertNotIn(b"", Networks(["0.0.0.0/0", "::/0"]))

    def test_none(self) -> None:
        self.lacks(Networks(), "192.0.2.1", "::1")
        self.assertFalse(Networks())
        self.assertEqual(len(Networks()), 0)

    def test_size(self) -> None:
        """Each network counts once, however it is written."""
        networks = Networks(
            ["10.0.0.0/8", "10.0.0.0/255.0.0.0", "::ffff:10.0.0.0/104", "10.0.0.0/9", "::/8"]
        )
        self.assertTrue(networks)
        self.assertEqual(len(networks), 3)

    def test_bad_network(self) -> None:
        self.assertRaises(ValueError, Networks, ["10.0.0.0/8", "10.0.0.1/8"])

    @given(networks, addresses)
    def test_agrees_with_the_standard_library(
        self,
        networks: list[IPv4Network | IPv6Network],
        address: IPv4Address | IPv6Address,
    ) -> None:
        found = address.packed in Networks([str(network) for network in networks])
        self.assertEqual(found, any(address in network for network in networks))


class Shown(SynchronousTestCase):
    """A client, as a list of networks has it."""

    def shown(self, address: str | None, bits: tuple[int, int]) -> str:
        return show(bind(pack(address), *bits), bits)

    def test_address(self) -> None:
        self.assertEqual(self.shown("192.0.2.7", (32, 64)), "192.0.2.7")
        self.assertEqual(self.shown("2001:db8::7", (24, 128)), "2001:db8::7")

    def test_network(self) -> None:
        self.assertEqual(self.shown("192.0.2.7", (24, 128)), "192.0.2.0/24")
        self.assertEqual(self.shown("2001:db8:1:2:3::7", (32, 64)), "2001:db8:1:2::/64")

    def test_no_address(self) -> None:
        self.assertEqual(self.shown(None, (32, 64)), "-")

    @given(st.ip_addresses(), st.integers(1, 32), st.integers(1, 128))
    def test_is_a_network_that_holds_the_client(
        self, address: IPv4Address | IPv6Address, v4: int, v6: int
    ) -> None:
        self.assertIn(pack(str(address)), Networks([self.shown(str(address), (v4, v6))]))


class Checked(SynchronousTestCase):
    def refusal(self, text: str) -> str:
        return str(self.assertRaises(ValueError, check, text))

    def test_good_ones_come_back(self) -> None:
        for text in ("192.0.2.0/24", "198.51.100.7", "2001:db8::/32", "::ffff:192.0.2.0/120"):
            self.assertEqual(check(text), text)

    def test_host_bits(self) -> None:
        """Which network was meant can be guessed, but it is not for us to decide."""
        for text, meant in {
            "192.0.2.7/24": "192.0.2.0/24",
            "2001:db8::1/32": "2001:db8::/32",
            "::ffff:192.0.2.7/120": "192.0.2.0/24",
        }.items():
            self.assertEqual(self.refusal(text), f"{text} has host bits set; did you mean {meant}?")

    def test_no_network(self) -> None:
        """The message says what is wrong, and how it is done."""
        for text, reason in {
            "": "Address cannot be empty",
            "example.com": "Expected 4 octets in 'example.com'",
            "192.0.2.0/33": "'33' is not a valid netmask",
            "010.0.0.0/8": "Leading zeros are not permitted in '010' in '010.0.0.0'",
            "10.0.0.0/8/8": "Only one '/' permitted in '10.0.0.0/8/8'",
            "2001:db8::/129": "'129' is not a valid netmask",
        }.items():
            refusal = self.refusal(text)
            self.assertIn(f"{text!r} is no network ({reason}); write one as 192.0.2.0/24", refusal)

    def test_zone(self) -> None:
        """It would be ignored, and so it is refused."""
        for text in ("fe80::1%eth0", "fe80::%eth0/64", "fe80::/64%eth0"):
            self.assertIn("leave out the %", self.refusal(text))

    @given(st.text() | st.from_regex(r"[0-9a-f:.]{0,9}(/[0-9]{0,3})?\s?", fullmatch=True))
    def test_agrees_with_the_standard_library(self, text: str) -> None:
        """What is let through is a network, and nothing but a ValueError is raised."""
        try:
            check(text)
        except ValueError:
            self.assertTrue("%" in text or self.refused_by_library(text))
        else:
            self.assertEqual(len(Networks([str(ip_network(text))])), 1)

    def refused_by_library(self, text: str) -> bool:
        try:
            ip_network(text)
        except ValueError:
            return True
        return False
