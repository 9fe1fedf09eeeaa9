"""The configuration is checked whole; everything wrong with it is reported together, by name."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any
from unittest import mock

import yaml
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wow import config
from wow.config import ConfigError, Http, Settings
from wow.endpoint import parse
from wow.secret import reveal
from wow.test.certificates import issue

KEY = "A" * 43 + "="
TOKEN = "0123456789abcdef"
COLLECTOR = "http://127.0.0.1:4318/v1/traces"


class Configured(SynchronousTestCase):
    def write(self, content: Any) -> str:
        path = Path(self.mktemp())
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    def load(self, content: Any = None, **environ: str) -> Settings:
        return config.load(None if content is None else self.write(content), environ)

    def problems(self, content: Any = None, **environ: str) -> list[str]:
        error: ConfigError = self.assertRaises(ConfigError, self.load, content, **environ)
        return error.problems

    def assertProblem(self, key: str, content: Any = None, **environ: str) -> None:
        problems = self.problems(content, **environ)
        self.assertEqual([problem.split(":")[0] for problem in problems], [key], problems)


class Defaults(Configured):
    def test_as_promised(self) -> None:
        settings = self.load()
        self.assertEqual(settings.listen, ["tcp:7777"])
        self.assertEqual(settings.admin.listen, "tcp:7778:interface=127.0.0.1")
        self.assertEqual(
            (settings.pow.effort, settings.pow.rounds, settings.pow.ttl), (2**20, 8, 60)
        )

    def test_lives_from_the_collection_alone(self) -> None:
        self.assertEqual([source.type for source in self.load().quotes.enabled], ["collection"])

    def test_public_apis_stand_ready(self) -> None:
        sources = [source for source in self.load().quotes.sources if source.type == "http"]
        self.assertEqual([source.name for source in sources], ["zenquotes", "api-ninjas"])
        self.assertFalse(any(source.enabled for source in sources))

    def test_empty_file(self) -> None:
        self.assertEqual(config.dump(self.load("")), config.dump(self.load()))


class Precedence(Configured):
    def test_environment_wins(self) -> None:
        settings = self.load({"pow": {"effort": 64, "rounds": 4}}, WOW_POW__EFFORT="128")
        self.assertEqual((settings.pow.effort, settings.pow.rounds), (128, 4))

    def test_lists_are_json(self) -> None:
        settings = self.load({"listen": ["tcp:1"]}, WOW_LISTEN='["tcp:2", "tcp:3"]')
        self.assertEqual(settings.listen, ["tcp:2", "tcp:3"])

    def test_sources_are_json(self) -> None:
        sources = [{"type": "collection", "name": "mine"}]
        settings = self.load(WOW_QUOTES__SOURCES=json.dumps(sources))
        self.assertEqual([source.name for source in settings.quotes.sources], ["mine"])

    def test_keys_are_not_configuration(self) -> None:
        self.load(WOW_KEYS=KEY)

    def test_what_kubernetes_sets_is_ignored(self) -> None:
        self.load(WOW_PORT="tcp://10.0.0.1:7777", WOW_SERVICE_HOST="10.0.0.1", PATH="/bin")

    def test_workers(self) -> None:
        self.assertEqual(self.load().workers, 1)
        for value, workers in ((4, 4), ("4", 4), ("auto", "auto")):
            self.assertEqual(self.load({"workers": value}).workers, workers)
        self.assertEqual(self.load(WOW_WORKERS="auto").workers, "auto")
        self.assertEqual(self.load(WOW_WORKERS="2").workers, 2)

    def test_can_be_handed_to_another_process(self) -> None:
        api = {"type": "http", "name": "a", "url": "http://x/", "text": "t", "author": "a"}
        sources = json.dumps([{**api, "headers": {"X-Key": "secret"}}])
        settings = self.load(WOW_QUOTES__SOURCES=sources)
        (source,) = pickle.loads(pickle.dumps(settings)).quotes.sources
        self.assertEqual(source.headers, {"X-Key": "secret"})

    def test_given_environment_only(self) -> None:
        os.environ["WOW_POW__EFFORT"] = "99999"
        self.addCleanup(os.environ.pop, "WOW_POW__EFFORT")
        self.assertEqual(self.load().pow.effort, 2**20)


class Problems(Configured):
    def test_all_together(self) -> None:
        problems = self.problems(
            {
                "pow": {"rounds": 0, "effort": True, "speed": 1},
                "keys": {"file": "/nonexistent/wow.key"},
                "listen": ["tcp"],
                "log": {"level": "loud"},
            },
            WOW_LIMITS__IDLE="soon",
            WOW_PWO__EFFORT="1",
            WOW_KEYS="",
        )
        keys = {problem.split(":")[0] for problem in problems}
        self.assertEqual(
            keys,
            {
                "pow.rounds",
                "pow.effort",
                "pow.speed",
                "keys.file",
                "keys",
                "listen.0",
                "log.level",
                "limits.idle",
                "pwo",
            },
        )

    def test_unknown_keys(self) -> None:
        self.assertProblem("effort", {"effort": 1})
        self.assertProblem("pow.efort", {"pow": {"efort": 1}})
        self.assertProblem("pow.efort", WOW_POW__EFORT="1")
        self.assertProblem("pwo", WOW_PWO__EFFORT="1")

    def test_one_underline_for_two(self) -> None:
        self.assertProblem("WOW_POW_EFFORT", WOW_POW_EFFORT="1")

    def test_section_given_twice(self) -> None:
        (problem,) = self.problems("pow: {effort: 8}\npow: {rounds: 2}\n")
        self.assertIn("twice in line 2", problem)

    def test_defaults_are_checked_too(self) -> None:
        with mock.patch("wow.config.os.access", return_value=False):
            self.assertProblem("spent.url")

    def test_wrong_types(self) -> None:
        for value in (True, 1.5, 8.0, "eight", None, [8], {"a": 8}):
            self.assertProblem("pow.rounds", {"pow": {"rounds": value}})
        for value in (True, "soon", None, [60]):
            self.assertProblem("pow.ttl", {"pow": {"ttl": value}})
        self.assertProblem("listen", {"listen": "tcp:7777"})
        self.assertProblem("listen", WOW_LISTEN="tcp:7777")
        self.assertProblem("pow", {"pow": 8})

    def test_impossible_values(self) -> None:
        for section, key, value in (
            ("pow", "effort", 0),
            ("pow", "effort", -1),
            ("pow", "rounds", 0),
            ("pow", "rounds", 65),
            ("pow", "ttl", 0),
            ("pow", "ttl", float("nan")),
            ("pow", "ttl", float("inf")),
            ("pow", "skew", -1),
            ("limits", "connections", 0),
            ("limits", "prefix_v4", 33),
            ("limits", "prefix_v6", 0),
            ("limits", "rate", 0),
            ("limits", "frame", 100),
            ("limits", "idle", 0),
            ("spent", "max_entries", 0),
            ("quotes", "pool", 0),
        ):
            name = f"WOW_{section}__{key}".upper()
            self.assertProblem(f"{section}.{key}", **{name: str(value)})

    def test_effort_and_rounds_must_fit(self) -> None:
        self.assertProblem("pow", {"pow": {"effort": 7, "rounds": 8}})
        self.assertProblem("pow", {"pow": {"effort": 2**33, "rounds": 1}})
        self.load({"pow": {"effort": 8, "rounds": 8}})

    def test_number_of_workers(self) -> None:
        wrong: Any
        for wrong in (0, -1, 257, 1.0, True, "some", None, []):
            (problem,) = self.problems({"workers": wrong})
            self.assertEqual(problem, "workers: must be a whole number from 1 to 256, or auto")

    def test_nobody_to_serve(self) -> None:
        self.assertProblem("listen", {"listen": []})

    def test_endpoints(self) -> None:
        for endpoint in (
            "7777",
            "tcp:77777",
            "tcp:",
            "tcp:x",
            "upd:7777",
            "tcp:7777:color=red",
            "ssl:1",
        ):
            self.assertProblem("listen.0", {"listen": [endpoint]})
            self.assertProblem("admin.listen", {"admin": {"listen": endpoint}})
        self.load({"listen": ["tcp:0", "unix:/tmp/x", "tcp:0:interface=\\:\\:"]})

    def test_endpoints_by_key(self) -> None:
        settings = self.load({"listen": ["tcp:7777", "haproxy:unix:/tmp/x"]})
        self.assertEqual(
            settings.endpoints,
            {"listen.0": parse("tcp:7777"), "listen.1": parse("haproxy:unix:/tmp/x")},
        )

    def test_header_of_anybody(self) -> None:
        for endpoint in ("haproxy:tcp:7777", "haproxy:ssl:7777:" + self.certificate()):
            content: dict[str, Any] = {"listen": ["tcp:1", endpoint]}
            (problem,) = self.problems(content)
            self.assertTrue(problem.startswith("proxy.networks: must say where"), problem)
            self.assertIn("listen.1", problem)
            self.load({**content, "proxy": {"networks": ["192.0.2.0/24"]}})
        # Its permissions say who may connect.
        self.load({"listen": ["haproxy:unix:/tmp/x"]})

    def test_operators_come_directly(self) -> None:
        self.assertProblem("admin.listen", {"admin": {"listen": "haproxy:unix:/tmp/x"}})

    def test_operators_from_elsewhere_show_who_they_are(self) -> None:
        with mock.patch.dict(os.environ, {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}):
            for listen in (
                "tcp:7778",
                "tcp6:7778",
                "tcp:7778:interface=0.0.0.0",
                "tcp:7778:interface=\\:\\:",
                "tcp:7778:interface=192.0.2.1",
                "tcp:7778:interface=localhost.example.org",
                f"ssl:7778:{self.certificate()}",
                "systemd:domain=INET:index=0",
                "systemd:domain=INET:name=admin",
            ):
                (problem,) = self.problems({"admin": {"listen": listen}})
                self.assertTrue(problem.startswith("admin.listen: "), problem)
                for remedy in ("admin.token", "admin.client_ca", "interface=127.0.0.1"):
                    self.assertIn(remedy, problem)
                self.load({"admin": {"listen": listen, "token": TOKEN}})

    def test_operators_of_this_machine_need_not(self) -> None:
        for listen in (
            "tcp:7778:interface=127.0.0.1",
            "tcp:7778:interface=127.7.7.7",
            "tcp:7778:interface=\\:\\:1",
            "tcp6:7778:interface=\\:\\:1",
            "unix:/run/wow.admin",
            f"ssl:7778:{self.certificate()}:interface=127.0.0.1",
        ):
            self.load({"admin": {"listen": listen}})

    def test_token_is_not_to_be_guessed(self) -> None:
        for token, why in (
            ("short", "has 5 characters"),
            ("", "has 0 characters"),
            ("password password", "`head -c 32 /dev/urandom | base64`"),
            ("p\N{LATIN SMALL LETTER A WITH DIAERESIS}ssword-password", "letters, digits"),
        ):
            for value in (token, "env:TOKEN"):
                (problem,) = self.problems({"admin": {"token": value}}, TOKEN=token)
                self.assertTrue(problem.startswith("admin.token: "), problem)
                self.assertIn("empty" if (value, token) == ("env:TOKEN", "") else why, problem)
        self.assertProblem("admin.token", {"admin": {"token": "env:UNSET"}})

    def test_token_is_not_shown(self) -> None:
        for value in (TOKEN, "env:TOKEN"):
            settings = self.load({"admin": {"token": value}}, TOKEN=TOKEN)
            self.assertNotIn(TOKEN, config.dump(settings))

    def test_certificates_of_operators(self) -> None:
        authority = Path(self.mktemp()).absolute()
        authority.write_bytes(issue().public)
        admin = {"listen": f"ssl:7778:{self.certificate()}", "client_ca": str(authority)}
        tls = self.load({"admin": admin}).admin.endpoint.tls
        assert tls is not None
        self.assertEqual(tls.clients, authority)
        plain = {**admin, "listen": "tcp:7778"}
        (problem,) = self.problems({"admin": plain})
        self.assertTrue(problem.startswith("admin.client_ca: is for TLS"), problem)
        authority.write_text("no certificate")
        self.assertProblem("admin.client_ca", {"admin": admin})

    def test_balancers(self) -> None:
        self.assertProblem("proxy.networks.0", {"proxy": {"networks": ["192.0.2.7/24"]}})
        self.assertProblem("proxy.timeout", {"proxy": {"timeout": 0}})

    def certificate(self, mode: int = 0o600) -> str:
        path, issued = Path(self.mktemp()).absolute(), issue()
        path.write_bytes(issued.private + issued.public)
        path.chmod(mode)
        return f"privateKey={path}"

    def test_certificates(self) -> None:
        for endpoint in (f"ssl:0:{self.certificate(0o644)}", "ssl:0:privateKey=/nonexistent"):
            self.assertProblem("listen.0", {"listen": [endpoint]})
            self.assertProblem("admin.listen", {"admin": {"listen": endpoint}})
        good = f"ssl:0:{self.certificate()}"
        self.load({"listen": [good], "admin": {"listen": good, "token": TOKEN}})

    def test_endpoints_of_systemd(self) -> None:
        """Whether the socket is handed over is seen by the server that asks for it."""
        self.load({"listen": ["systemd:domain=INET6:name=wow", "systemd:domain=INET:index=0"]})
        for endpoint in ("systemd:domain=INET", "systemd:index=0", "systemd:domain=INET:index=x"):
            self.assertProblem("listen.0", {"listen": [endpoint]})

    def test_keys(self) -> None:
        self.assertProblem("keys.file", WOW_KEYS__FILE="/nonexistent")
        self.assertProblem("keys", WOW_KEYS="short")
        self.assertProblem("keys", WOW_KEYS="")
        path = self.write(KEY)
        Path(path).chmod(0o644)
        self.assertProblem("keys.file", {"keys": {"file": path}})
        Path(path).chmod(0o600)
        self.load({"keys": {"file": path}})

    def test_spent(self) -> None:
        for url in ("", "lmdb:", "redis:x", "/var/spent", f"lmdb:{self.write('file')}"):
            self.assertProblem("spent.url", {"spent": {"url": url}})

    def test_spent_server(self) -> None:
        for url in ("redis://", "redis://a,b", "redis+sentinel://a", "redis://:s3cret@a"):
            (problem,) = self.problems({"spent": {"url": url}})
            self.assertTrue(problem.startswith("spent.url: "), problem)
            self.assertNotIn("s3cret", problem)
        for section, key in (
            ({"outage": "local"}, "directory"),
            ({"directory": "var/local"}, "outage: local"),
            ({"url": "redis://wow@a"}, "password"),
            ({"ca": self.write(issue().public.decode())}, "rediss"),
            ({"url": "lmdb:var/spent", "outage": "local"}, "outage: local"),
            ({"url": "lmdb:var/spent", "password": "env:A"}, "password"),
        ):
            (problem,) = self.problems({"spent": {"url": "redis://a", **section}})
            self.assertTrue(problem.startswith("spent: "), problem)
            self.assertIn(key, problem)
        for key, value in (
            ("connections", 0),
            ("connections", 17),
            ("timeout", 0),
            ("timeout", 61),
            ("outage", "ignore"),
            ("ca", "/nonexistent"),
            ("directory", self.write("file")),
        ):
            self.assertProblem(f"spent.{key}", {"spent": {"url": "rediss://a", key: value}})
        self.assertProblem("spent.password", {"spent": {"url": "redis://a", "password": "env:A"}})

    def test_spent_server_as_it_should_be(self) -> None:
        self.load({"spent": {"url": "redis://a"}})
        self.load(
            {
                "spent": {
                    "url": "rediss://wow@a/1",
                    "password": "x",
                    "ca": self.write(issue().public.decode()),
                }
            }
        )
        settings = self.load(
            WOW_SPENT__URL="redis+sentinel://a,b/wisdom",
            WOW_SPENT__OUTAGE="local",
            WOW_SPENT__DIRECTORY="var/local",
        )
        self.assertEqual(settings.spent.lmdb, Path("var/local"))

    def test_sources(self) -> None:
        self.assertProblem("quotes", {"quotes": {"sources": []}})
        collection = {"type": "collection", "name": "a"}
        self.assertProblem("quotes", {"quotes": {"sources": [collection, collection]}})
        self.assertProblem("quotes", {"quotes": {"sources": [{**collection, "enabled": False}]}})
        missing = {**collection, "file": "/nonexistent"}
        self.assertProblem("quotes.sources.0.collection.file", {"quotes": {"sources": [missing]}})
        self.assertProblem("quotes.sources.0", {"quotes": {"sources": [{"type": "oracle"}]}})

    def test_http_sources(self) -> None:
        good = {"type": "http", "name": "a", "url": "http://x/", "text": "t", "author": "a"}
        self.load({"quotes": {"sources": [good]}})
        for key, value in (("url", "ftp://x"), ("text", "["), ("timeout", 0), ("name", "a b")):
            self.assertProblem(
                f"quotes.sources.0.http.{key}", {"quotes": {"sources": [{**good, key: value}]}}
            )
        self.assertProblem(
            "quotes.sources.a.headers.X-Key",
            {"quotes": {"sources": [{**good, "headers": {"X-Key": "env:UNSET"}}]}},
        )

    def test_tracing(self) -> None:
        self.assertIsNone(self.load().tracing.endpoint)
        self.load({"tracing": {"endpoint": COLLECTOR, "ratio": 0, "networks": ["::1"]}})
        self.load({"tracing": {"endpoint": None, "headers": {"X-Key": "env:UNSET"}}})
        for key, value in (
            ("endpoint", "127.0.0.1:4318"),
            ("endpoint", "grpc://127.0.0.1:4317/v1/traces"),
            ("endpoint", "http://127.0.0.1:4318"),
            ("endpoint", "http://127.0.0.1:4318/"),
            ("ratio", -0.1),
            ("ratio", 1.1),
            ("ratio", True),
            ("ratio", float("nan")),
            ("headers", {"X Key": "a"}),
            ("headers", {"X-Key\n": "a"}),
            ("headers", {"": "a"}),
        ):
            self.assertProblem(f"tracing.{key}", {"tracing": {key: value}})
        self.assertProblem("tracing.networks.0", {"tracing": {"networks": ["192.0.2.7/24"]}})
        self.assertProblem(
            "tracing.headers.X-Key",
            {"tracing": {"endpoint": COLLECTOR, "headers": {"X-Key": "env:UNSET"}}},
        )

    def test_tracing_needs_what_may_not_be_installed(self) -> None:
        with mock.patch("wow.config.tracing.installed", return_value=False):
            (problem,) = self.problems({"tracing": {"endpoint": COLLECTOR}})
            self.assertTrue(problem.startswith("tracing.endpoint: "))
            self.assertIn("pip install 'wow[tracing]'", problem)
            self.load({"tracing": {"ratio": 0.5}})

    def test_files(self) -> None:
        for content in ("pow: [", "- a", "1", "\x00", "1: 2", "pow: *x"):
            (problem,) = self.problems(content)
            self.assertIn("/", problem)
        self.assertRaises(ConfigError, config.load, "/nonexistent", {})

    def test_no_secret_in_any_problem(self) -> None:
        secret = "c2VjcmV0"
        problems = self.problems(
            {
                "quotes": {
                    "sources": [
                        {"type": "http", "name": "a", "url": secret, "headers": {"X": [secret]}}
                    ]
                }
            },
            WOW_KEYS=secret,
        )
        self.assertNotIn(secret, " ".join(problems))
        source = {"type": "http", "name": "a", "url": "http://x/", "text": "t", "author": "a"}
        for content in (
            f"headers: {{X-Key: {secret}: {secret}}}",
            f'headers: {{X-Key: "{secret}',
            f"pow: !!python/{secret} {{}}",
            {"quotes": {"sources": [{**source, "headers": {f"X-Key:{secret}": None}}]}},
        ):
            self.assertNotIn(secret, " ".join(self.problems(content)))

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["listen", "pow", "limits", "effort", "quotes", "sources", "x"]
                    ),
                    inner,
                    max_size=3,
                )
            ),
            max_leaves=8,
        )
    )
    def test_any_content(self, content: Any) -> None:
        try:
            settings = self.load(yaml.safe_dump(content))
        except ConfigError as error:
            self.assertTrue(error.problems)
        else:
            self.assertGreaterEqual(settings.pow.effort, settings.pow.rounds)


class Secrets(Configured):
    source = (
        ("type", "http"),
        ("name", "a"),
        ("url", "https://user:url-password@x/?key=t0ken"),
        ("text", "t"),
        ("author", "a"),
    )

    def test_found_where_they_are(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        (directory / "api").touch(0o600)
        (directory / "api").write_text("from a credential\n")
        (directory / "api").chmod(0o600)
        environ = {"API": "from the environment", "CREDENTIALS_DIRECTORY": str(directory)}
        for value, secret in (
            ("plain: value", "plain: value"),
            ("env:API", "from the environment"),
            (f"file:{directory / 'api'}", "from a credential"),
            ("credential:api", "from a credential"),
        ):
            self.assertEqual(reveal(value, environ), secret)

    def test_missing(self) -> None:
        for value in ("env:UNSET", "file:/nonexistent", "credential:x"):
            missing = self.assertRaises(ValueError, reveal, value, {})
            self.assertIn(value, str(missing))

    def test_file_that_others_can_read(self) -> None:
        """As it is with key files; nothing of it is shown."""
        directory = Path(self.mktemp())
        directory.mkdir()
        for content, mode, why in (
            (b"hunter22", 0o644, "chmod 600"),
            (b"hunter\xff", 0o600, "text"),
        ):
            (directory / "api").write_bytes(content)
            (directory / "api").chmod(mode)
            environ = {"CREDENTIALS_DIRECTORY": str(directory)}
            for value in (f"file:{directory / 'api'}", "credential:api"):
                refused = str(self.assertRaises(ValueError, reveal, value, environ))
                self.assertIn(why, refused)
                self.assertNotIn("hunter", refused)

    def test_of_more_than_one_line(self) -> None:
        for secret in ("", "a\r\nX-Header: b"):
            self.assertRaises(ValueError, reveal, "env:A", {"A": secret})

    def test_masked_when_shown(self) -> None:
        headers = {"X-A": "plain-secret", "X-B": "env:API"}
        settings = self.load(
            {"quotes": {"sources": [{**dict(self.source), "headers": headers}]}}, API="api-secret"
        )
        shown = config.dump(settings)
        for secret in ("plain-secret", "api-secret", "url-password", "t0ken"):
            self.assertNotIn(secret, shown)
        self.assertIn("env:API", shown)
        (source,) = settings.quotes.enabled
        assert isinstance(source, Http)
        self.assertEqual(source.headers["X-A"], "plain-secret")
        self.assertIn("t0ken", str(source.url))

    def test_password_of_the_spent_store(self) -> None:
        for password, shown in (("s3cret", "********"), ("env:PASSWORD", "env:PASSWORD")):
            spent = {"url": "redis://a", "password": password}
            dumped = yaml.safe_load(config.dump(self.load({"spent": spent}, PASSWORD="s3cret")))
            self.assertEqual(dumped["spent"]["password"], shown)

    def test_masked_for_the_collector_too(self) -> None:
        headers = {"X-A": "plain-secret", "X-B": "env:KEY"}
        endpoint = "https://user:hunter2@x/v1/traces?key=t0ken"
        settings = self.load({"tracing": {"endpoint": endpoint, "headers": headers}}, KEY="secret")
        shown = config.dump(settings)
        for secret in ("plain-secret", "hunter2", "t0ken"):
            self.assertNotIn(secret, shown)
        self.assertIn("env:KEY", shown)
        self.assertIn("/v1/traces", shown)
        self.assertEqual(str(settings.tracing.endpoint), endpoint)

    def test_keys_are_not_shown(self) -> None:
        self.assertNotIn(KEY, config.dump(self.load(WOW_KEYS=KEY)))
