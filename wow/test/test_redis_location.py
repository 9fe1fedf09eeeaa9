"""A URL says where a Redis server is, or is refused without being repeated."""

from __future__ import annotations

from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wow.redis.location import SCHEMES, Location, parse

NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]{2,5})?", fullmatch=True)
ADDRESSES = st.one_of(st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(lambda ip: f"[{ip}]"))
SERVERS = st.tuples(st.one_of(NAMES, ADDRESSES), st.none() | st.integers(1, 65535))
USERS = st.none() | st.text(st.characters(codec="utf-8"), min_size=1).filter(str.isprintable)


def written(server: tuple[str, int | None]) -> str:
    host, port = server
    return host if port is None else f"{host}:{port}"


class Understanding(SynchronousTestCase):
    def test_server(self) -> None:
        self.assertEqual(
            parse("redis://valkey.example:6380/3"),
            Location((("valkey.example", 6380),), None, 3, None, False),
        )

    def test_least(self) -> None:
        for url in ("redis://valkey", "redis://valkey/"):
            self.assertEqual(parse(url), Location((("valkey", 6379),), None, 0, None, False))

    def test_encrypted(self) -> None:
        self.assertTrue(parse("rediss://valkey").tls)
        self.assertTrue(parse("rediss+sentinel://one/wisdom").tls)

    def test_user(self) -> None:
        self.assertEqual(parse("redis://wow@valkey").user, "wow")
        self.assertEqual(parse("redis://a%40b@valkey").user, "a@b")

    def test_sentinels(self) -> None:
        location = parse("redis+sentinel://wow@one,[2001:db8::2]:26380/wisdom/2")
        self.assertEqual(
            location,
            Location((("one", 26379), ("2001:db8::2", 26380)), "wisdom", 2, "wow", False),
        )

    @given(st.sampled_from(SCHEMES), USERS, st.lists(SERVERS, min_size=1), st.integers(0, 99999))
    def test_any(
        self,
        scheme: str,
        user: str | None,
        servers: list[tuple[str, int | None]],
        database: int,
    ) -> None:
        sentinel = scheme.endswith("sentinel")
        servers = servers if sentinel else servers[:1]
        at = "" if user is None else f"{quote(user, safe='')}@"
        path = f"/wisdom/{database}" if sentinel else f"/{database}"
        location = parse(f"{scheme}://{at}{','.join(map(written, servers))}{path}")
        port = 26379 if sentinel else 6379
        self.assertEqual(
            location.servers, tuple((host.strip("[]"), given or port) for host, given in servers)
        )
        self.assertEqual(location.master, "wisdom" if sentinel else None)
        self.assertEqual((location.user, location.database), (user, database))


class Refusing(SynchronousTestCase):
    def refusal(self, url: str) -> str:
        return str(self.assertRaises(ValueError, parse, url))

    def test_none_at_all(self) -> None:
        for url in ("", "redis", "redis:", "redis:valkey", "valkey://x", "unix:///x", "REDIS://x"):
            self.assertIn("redis://HOST:PORT/DB", self.refusal(url))

    def test_no_server(self) -> None:
        for url in ("redis://", "redis:///0", "redis://:6379", "redis+sentinel://one,,two/m"):
            self.assertIn("host", self.refusal(url))

    def test_ports(self) -> None:
        for port in ("0", "65536", "-1", "x", "6379x", "1:2"):
            self.assertIn("port", self.refusal(f"redis://valkey:{port}"))

    def test_databases(self) -> None:
        for database in ("x", "-1", "1/2", "1.0", "999999"):
            self.assertIn("database", self.refusal(f"redis://valkey/{database}"))

    def test_sentinels_without_a_master(self) -> None:
        for path in ("", "/", "//0", "/a b", "/a%20b"):
            self.refusal(f"redis+sentinel://one{path}")

    def test_more_than_one_server(self) -> None:
        self.assertIn("Sentinels", self.refusal("redis://one,two"))

    def test_options(self) -> None:
        for end in ("?ssl=true", "#x", "/0?db=1", " "):
            self.assertIn("nothing else", self.refusal(f"redis://valkey{end}"))

    def test_nobody(self) -> None:
        for user in ("", "%00", "a%0ab"):
            self.assertIn("user", self.refusal(f"redis://{user}@valkey"))

    def test_password(self) -> None:
        for url in ("redis://:s3cret@valkey", "redis://wow:s3cret@valkey", "redis://wow:@valkey"):
            refusal = self.refusal(url)
            self.assertIn("password", refusal)
            self.assertNotIn("s3cret", refusal)

    @given(st.sampled_from(["", *(f"{scheme}://" for scheme in SCHEMES)]), st.text())
    def test_anything(self, beginning: str, text: str) -> None:
        try:
            location = parse(beginning + text)
        except ValueError as refusal:
            self.assertTrue(len(text) < 9 or text not in str(refusal))
        else:
            for host, port in location.servers:
                self.assertTrue(host.isprintable() and " " not in host)
                self.assertIn(port, range(1, 65536))
