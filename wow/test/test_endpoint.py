"""The text of an endpoint says what is on the socket, and what the socket is."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase

from wow.endpoint import Endpoint, NotHandedOver, TlsFiles, check, is_local, listener, parse

PEM = Path("server.pem")

arguments = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)


class Plain(SynchronousTestCase):
    """What is Twisted's own is left to it, as it stands."""

    def test_is_its_own_base(self) -> None:
        for text in (
            "tcp:7777",
            "tcp:7777:interface=\\:\\:",
            "tcp:port=7777:backlog=7",
            "tcp6:7777",
            "unix:/run/wow.sock:mode=660",
            "unix:/run/wow\\:1.sock",
        ):
            self.assertEqual(parse(text), Endpoint(text, text))


class Proxied(SynchronousTestCase):
    def test_is_the_rest_with_a_header_before_it(self) -> None:
        for base in ("tcp:7777:interface=\\:\\:", "unix:/run/wow\\:1.sock", "tcp6:7777"):
            text = f"haproxy:{base}"
            self.assertEqual(parse(text), Endpoint(text, base, proxied=True))

    def test_tls_comes_after_the_header(self) -> None:
        text = "haproxy:ssl:7777:privateKey=key.pem"
        expected = Endpoint(text, "tcp:7777", True, TlsFiles(Path("key.pem"), Path("key.pem")))
        self.assertEqual(parse(text), expected)


class Tls(SynchronousTestCase):
    def check(self, text: str, base: str, tls: TlsFiles) -> None:
        self.assertEqual(parse(text), Endpoint(text, base, tls=tls))

    def test_key_and_certificate(self) -> None:
        files = TlsFiles(Path("/k.pem"), Path("/c.pem"))
        for text in (
            "ssl:443:privateKey=/k.pem:certKey=/c.pem",
            "ssl:443:/k.pem:/c.pem",
            "ssl:certKey=/c.pem:port=443:privateKey=/k.pem",
        ):
            self.check(text, "tcp:443", files)

    def test_certificate_in_the_file_of_the_key(self) -> None:
        key = Path("/k.pem")
        self.check("ssl:443:privateKey=/k.pem", "tcp:443", TlsFiles(key, key))

    def test_default_of_twisted(self) -> None:
        self.check("ssl:443", "tcp:443", TlsFiles(PEM, PEM))

    def test_chain(self) -> None:
        chain = Path("/chain.pem")
        self.check("ssl:443:extraCertChain=/chain.pem", "tcp:443", TlsFiles(PEM, PEM, chain))

    def test_what_is_about_the_socket_goes_to_it(self) -> None:
        files = TlsFiles(PEM, PEM)
        self.check("ssl:443:interface=\\:\\:1", "tcp:443:interface=\\:\\:1", files)
        self.check("ssl:0:backlog=7", "tcp:0:backlog=7", files)

    @given(arguments, arguments)
    def test_any_path_can_be_written(self, key: str, certificate: str) -> None:
        quoted = [quoteStringArgument(path) for path in (key, certificate)]
        tls = parse(f"ssl:443:privateKey={quoted[0]}:certKey={quoted[1]}").tls
        self.assertEqual(tls, TlsFiles(Path(key), Path(certificate)))

    @given(arguments)
    def test_base_listens_where_twisted_would(self, interface: str) -> None:
        quoted = quoteStringArgument(interface)
        reactor = MemoryReactor()
        serverFromString(reactor, parse(f"ssl:443:interface={quoted}").base).listen(None)
        port, _, _, found = reactor.tcpServers[0]
        self.assertEqual((port, found), (443, interface))


class Refused(SynchronousTestCase):
    def check(self, text: str, why: str) -> None:
        message = str(self.assertRaises(ValueError, check, text))
        self.assertIn(repr(text), message)
        self.assertIn(why, message)

    def test_what_is_none(self) -> None:
        for text in ("", ":", "7777", "haproxy:", "haproxy", "tls:/certificates:tcp"):
            self.assertRaises(ValueError, check, text)

    def test_what_has_no_listening_socket(self) -> None:
        self.check("stdio:", "'stdio' is none of tcp, ")

    def test_layers_of_twisted_that_do_not_fit(self) -> None:
        self.check("tls:/certificates:tcp\\:443", "use ssl:")
        self.check("haproxy:haproxy:tcp:7777", "only once")

    def test_no_such_port(self) -> None:
        for text in ("tcp:65536", "tcp:-1", "ssl:65536", "haproxy:tcp:65536"):
            self.check(text, "no such port")
        self.check("ssl:privateKey=key.pem", "has no port")

    def test_what_only_a_process_of_systemds_has(self) -> None:
        """It is good anywhere until somebody is to listen on it."""
        base = check("haproxy:systemd:domain=INET:index=0").base
        self.assertEqual(base, "systemd:domain=INET:index=0")
        self.assertRaises(NotHandedOver, listener, None, base)

    def test_no_number(self) -> None:
        for text in ("tcp:http", "ssl:https", "tcp:1:backlog=many", "tcp:"):
            self.check(text, "Twisted cannot make one of it")

    def test_arguments_that_there_are_not(self) -> None:
        self.check("ssl:443:sslmethod=SSLv3_METHOD", "not sslmethod")
        self.check("ssl:443:k.pem:c.pem:TLSv1_METHOD", "'TLSv1_METHOD' lacks the name")
        self.check("tcp:443:privateKey=k.pem", "Twisted cannot")

    def test_arguments_twice(self) -> None:
        self.check("ssl:443:privateKey=a.pem:privateKey=b.pem", "twice")
        self.check("ssl:443:port=444", "twice")

    def test_backslash_before_nothing(self) -> None:
        for text in ("ssl:443:privateKey=a\\", "tcp:443\\", "haproxy:unix:/run/a\\\\\\"):
            self.check(text, "a backslash at its end")

    @given(st.one_of(st.text(), st.text(":\\=sltcpxaroyhinu0123./", max_size=60)))
    def test_nothing_else_is_ever_raised(self, text: str) -> None:
        for candidate in (text, f"ssl:{text}", f"haproxy:ssl:{text}", f"tcp:{text}"):
            try:
                self.assertEqual(check(candidate).text, candidate)
            except ValueError:
                continue


class Local(SynchronousTestCase):
    """Whether an endpoint can be reached from elsewhere; who cannot say it can."""

    def test_is(self) -> None:
        for text in (
            "tcp:7778:interface=127.0.0.1",
            "tcp:7778:127.255.0.1",
            "tcp6:7778:interface=\\:\\:1",
            "unix:/run/wow",
            "ssl:7778:interface=127.0.0.1",
        ):
            self.assertTrue(is_local(parse(text)), text)

    def test_is_not(self) -> None:
        for text in (
            "tcp:7778",
            "tcp:7778:interface=0.0.0.0",
            "tcp:7778:interface=128.0.0.1",
            "tcp:7778:interface=name.example.org",
            "tcp6:7778",
            "ssl:7778",
            "systemd:domain=INET:index=0",
        ):
            self.assertFalse(is_local(parse(text)), text)
