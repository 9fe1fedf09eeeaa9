"""
The configuration: defaults, then a YAML file, then the environment.

It is checked whole before anything listens, and everything that is wrong with
it is reported together, each by its key.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import attrs
import jmespath
import yaml
from pydantic import (
    AfterValidator,
    AnyHttpUrl,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

try:
    # Seven times as fast, where PyYAML was built with it.
    from yaml import CSafeLoader as SafeLoader
except ImportError:
    from yaml import SafeLoader  # type: ignore[assignment]

from wow import certificate, endpoint, networks, tracing
from wow.admin import bearer
from wow.pow import keys
from wow.quotes.sources import load_collection
from wow.redis import certificates, location
from wow.secret import names_secret, reveal

_PREFIX = "WOW_"
# Holds keys, not a part of the configuration: see L{keys.find}.
_KEYS = "WOW_KEYS"
_MASK = "********"

MOST_WORKERS = 256


class ConfigError(Exception):
    """
    The configuration cannot be used.

    @ivar problems: what is wrong with it, a sentence each, led by the key.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


# Values


def _refuse_booleans(value: Any) -> Any:
    # True is an int to Python, and so to pydantic.
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


def _refuse_fractions(value: Any) -> Any:
    if isinstance(value, float):
        raise ValueError("must be a whole number")
    return value


def _read_workers(value: Any) -> int | str:
    if value == "auto":
        return "auto"
    with suppress(TypeError, ValueError):
        number = int(value) if isinstance(value, (int, str)) else 0
        if not isinstance(value, bool) and 1 <= number <= MOST_WORKERS:
            return number
    raise ValueError(f"must be a whole number from 1 to {MOST_WORKERS}, or auto")


def _check_endpoint(text: str) -> str:
    if (files := endpoint.check(text).tls) is not None:
        certificate.load(files)
    return text


def _check_direct(text: str) -> str:
    if endpoint.parse(text).proxied:
        raise ValueError("cannot be haproxy:, that is for clients; operators come directly")
    return text


def _check_key_file(path: Path) -> Path:
    keys.read(path)
    return path


def _check_collection(path: Path) -> Path:
    load_collection(path)
    return path


def _check_spent(url: str) -> str:
    scheme, _, rest = url.partition(":")
    if scheme in location.SCHEMES:
        location.parse(url)
    elif scheme == "lmdb" and rest:
        _check_directory(Path(rest))
    else:
        raise ValueError(f"must be lmdb:PATH, {location.FORMS}")
    return url


def _check_directory(path: Path) -> Path:
    directory = path.absolute()
    try:
        existing = next(place for place in (directory, *directory.parents) if place.exists())
    except OSError as bad:
        raise ValueError(f"{bad.strerror}") from None
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"{directory} cannot be used: {existing} is not a writable directory")
    return path


def _check_certificates(path: Path) -> Path:
    certificates.read(path)
    return path


def _check_authorities(path: Path) -> Path:
    certificate.load_certificates(path)
    return path


def _check_expression(expression: str) -> str:
    try:
        jmespath.compile(expression)
    except jmespath.exceptions.JMESPathError as bad:
        raise ValueError(f"is no JMESPath expression: {bad}") from None
    return expression


def _check_tracing(url: AnyHttpUrl) -> AnyHttpUrl:
    if not tracing.installed():
        raise ValueError("needs what is not installed; run: pip install 'wow[tracing]'")
    if url.path in (None, "/"):
        raise ValueError("must be a whole URL; a collector's path is as a rule /v1/traces")
    return url


def _masked_url(url: AnyHttpUrl) -> str:
    # APIs take keys in either part.
    shown = str(url)
    for secret in (url.fragment, url.query, url.password, url.username):
        shown = shown.replace(secret, _MASK) if secret else shown
    return shown


def _masked_secret(value: str) -> str:
    return value if names_secret(value) else _MASK


Number = BeforeValidator(_refuse_booleans)
Whole = BeforeValidator(_refuse_fractions)
Count = Annotated[int, Number, Whole, Field(ge=1, le=2**48)]
Seconds = Annotated[float, Number, Field(gt=0, le=10**6, allow_inf_nan=False)]
PerSecond = Annotated[float, Number, Field(gt=0, le=10**6, allow_inf_nan=False)]
Workers = Annotated[int | Literal["auto"], PlainValidator(_read_workers)]
Network = Annotated[str, AfterValidator(networks.check)]
Endpoint = Annotated[str, AfterValidator(_check_endpoint)]
DirectEndpoint = Annotated[Endpoint, AfterValidator(_check_direct)]
Expression = Annotated[str, AfterValidator(_check_expression)]
HeaderName = Annotated[str, Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")]
MaskedUrl = PlainSerializer(_masked_url)
SourceName = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]


# Sections


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Admin(_Section):
    """Where operators look."""

    listen: DirectEndpoint = "tcp:7778:interface=127.0.0.1"
    token: Annotated[str, PlainSerializer(_masked_secret)] | None = None
    client_ca: Annotated[Path, AfterValidator(_check_authorities)] | None = None

    @property
    def endpoint(self) -> endpoint.Endpoint:
        """Where operators connect, and whose certificates are believed there."""
        parsed = endpoint.parse(self.listen)
        if parsed.tls is None:
            return parsed
        return attrs.evolve(parsed, tls=attrs.evolve(parsed.tls, clients=self.client_ca))


class Proxy(_Section):
    """Whose word is believed on who the clients are."""

    networks: list[Network] = []
    timeout: Seconds = 5


class Pow(_Section):
    """The price."""

    effort: Count = 2**20
    floor: Count = 1
    ceiling: Count = 2**24
    load: Annotated[float, Number, Field(gt=0, le=1)] = 0.6
    period: Annotated[float, Number, Field(ge=0.1, le=3600, allow_inf_nan=False)] = 4
    rounds: Annotated[int, Number, Whole, Field(ge=1, le=64)] = 8
    ttl: Seconds = 60
    skew: Annotated[float, Number, Field(ge=0, le=3600, allow_inf_nan=False)] = 5
    bind: bool = True

    @model_validator(mode="after")
    def _check_effort(self) -> Self:
        if not self.floor <= self.effort <= self.ceiling:
            raise ValueError(
                f"effort ({self.effort}) must be from floor ({self.floor}) "
                f"to ceiling ({self.ceiling})"
            )
        if self.effort < self.rounds:
            raise ValueError(f"effort ({self.effort}) must be 1 or more for each of the rounds")
        if self.ceiling >= self.rounds * 2**32:
            raise ValueError(f"ceiling ({self.ceiling}) must be below 2^32 for each of the rounds")
        return self


class Keys(_Section):
    """The key ring."""

    file: Annotated[Path, AfterValidator(_check_key_file)] | None = None


class Spent(_Section):
    """What was redeemed."""

    url: Annotated[str, AfterValidator(_check_spent)] = "lmdb:var/spent"
    max_entries: Count = 2_000_000
    password: Annotated[str, PlainSerializer(_masked_secret)] | None = None
    ca: Annotated[Path, AfterValidator(_check_certificates)] | None = None
    connections: Annotated[int, Number, Whole, Field(ge=1, le=16)] = 2
    timeout: Annotated[float, Number, Field(ge=0.01, le=60, allow_inf_nan=False)] = 0.5
    outage: Literal["refuse", "local"] = "refuse"
    directory: Annotated[Path, AfterValidator(_check_directory)] | None = None

    @property
    def server(self) -> location.Location | None:
        """Where the server is that other machines share, or None for LMDB."""
        return None if self.url.startswith("lmdb:") else location.parse(self.url)

    @property
    def lmdb(self) -> Path:
        """Where LMDB is, if this machine has a store of its own."""
        return self.directory or Path(self.url.partition(":")[2])

    @model_validator(mode="after")
    def _check_server(self) -> Self:
        server = self.server
        if server is None:
            self._check_lmdb_alone()
        elif self.outage == "local" and self.directory is None:
            raise ValueError("directory is missing: outage: local keeps what is redeemed there")
        elif self.outage == "refuse" and self.directory is not None:
            raise ValueError("directory is for outage: local")
        elif server.user is not None and self.password is None:
            raise ValueError("password is missing: url names a user")
        elif self.ca is not None and not server.tls:
            raise ValueError("ca is for TLS, and url asks for none: rediss has it, redis not")
        return self

    def _check_lmdb_alone(self) -> None:
        given = [key for key in ("password", "ca", "directory") if getattr(self, key) is not None]
        if self.outage == "local":
            given.append("outage: local")
        if given:
            raise ValueError(f"{given[0]} is for a Redis server, and url has LMDB")


class Limits(_Section):
    """What strangers may cost."""

    connections: Count = 10_000
    half_begun: Count = 2000
    client_connections: Count = 64
    connection_rate: PerSecond = 20
    connection_burst: Count = 100
    challenge_rate: PerSecond = 20
    challenge_burst: Count = 100
    failure_rate: PerSecond = 1
    failure_burst: Count = 20
    network_share: Annotated[int, Number, Whole, Field(ge=0, le=2**20)] = 32
    network_v4: Annotated[int, Number, Whole, Field(ge=8, le=32, multiple_of=8)] = 24
    network_v6: Annotated[int, Number, Whole, Field(ge=8, le=128, multiple_of=8)] = 48
    allow: list[Network] = []
    deny: list[Network] = []
    explained: PerSecond = 50
    sieve_rate: Annotated[float, Number, Field(ge=0, le=10**6, allow_inf_nan=False)] = 50
    backlog: Count = 1024
    clients: Count = 100_000
    prefix_v4: Annotated[int, Number, Whole, Field(ge=1, le=32)] = 32
    prefix_v6: Annotated[int, Number, Whole, Field(ge=1, le=128)] = 64
    exchanges: Count = 1000
    frame: Annotated[int, Number, Whole, Field(ge=2048, le=65536)] = 4096
    idle: Seconds = 30
    lifetime: Seconds = 3600
    linger: Seconds = 5
    leave: Annotated[float, Number, Field(ge=0, le=3600, allow_inf_nan=False)] = 0
    drain: Annotated[float, Number, Field(ge=0, le=3600, allow_inf_nan=False)] = 10

    @model_validator(mode="after")
    def _check_networks(self) -> Self:
        for family in ("v4", "v6"):
            network, client = getattr(self, f"network_{family}"), getattr(self, f"prefix_{family}")
            if network > client:
                raise ValueError(
                    f"network_{family} ({network}) must not be longer than prefix_{family} "
                    f"({client}): a network is no smaller than a client"
                )
        return self


class Http(_Section):
    """An HTTP API that quotes come from."""

    type: Literal["http"]
    name: SourceName
    enabled: bool = True
    url: Annotated[AnyHttpUrl, MaskedUrl]
    items: Expression = "@"
    text: Expression
    author: Expression
    headers: dict[str, Annotated[str, PlainSerializer(_masked_secret)]] = {}
    timeout: Seconds = 5
    max_bytes: Annotated[int, Number, Whole, Field(ge=1, le=2**24)] = 65536
    interval: Seconds = 10


class Collection(_Section):
    """A collection of quotes in a file, or the one that wow brings."""

    type: Literal["collection"]
    name: SourceName
    enabled: bool = True
    file: Annotated[Path, AfterValidator(_check_collection)] | None = None


Source = Annotated[Http | Collection, Field(discriminator="type")]

_ZENQUOTES = {
    "type": "http",
    "name": "zenquotes",
    "enabled": False,
    "url": "https://zenquotes.io/api/quotes",
    "text": "q",
    "author": "a",
}
_API_NINJAS = {
    "type": "http",
    "name": "api-ninjas",
    "enabled": False,
    "url": "https://api.api-ninjas.com/v1/quotes",
    "text": "quote",
    "author": "author",
    "headers": {"X-Api-Key": "env:API_NINJAS_KEY"},
}


def _default_sources() -> list[Http | Collection]:
    return [
        Http.model_validate(_ZENQUOTES),
        Http.model_validate(_API_NINJAS),
        Collection(type="collection", name="collection"),
    ]


class Quotes(_Section):
    """What is behind the gate."""

    pool: Annotated[int, Number, Whole, Field(ge=1, le=100_000)] = 200
    sources: list[Source] = Field(default_factory=_default_sources)

    @model_validator(mode="after")
    def _check_sources(self) -> Self:
        if not self.enabled:
            raise ValueError("none of the sources is enabled")
        if len({source.name for source in self.sources}) < len(self.sources):
            raise ValueError("two of the sources have the same name")
        return self

    @property
    def enabled(self) -> list[Http | Collection]:
        """The sources to ask, in order."""
        return [source for source in self.sources if source.enabled]


class Tracing(_Section):
    """Single exchanges, told to a collector."""

    endpoint: Annotated[AnyHttpUrl, AfterValidator(_check_tracing), MaskedUrl] | None = None
    ratio: Annotated[float, Number, Field(ge=0, le=1)] = 0.01
    headers: dict[HeaderName, Annotated[str, PlainSerializer(_masked_secret)]] = {}
    networks: list[Network] = []


class Log(_Section):
    """What is told of a running server."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


class Settings(BaseSettings):
    """The whole configuration; C{etc/wow.yaml} says what each key means."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix=_PREFIX, env_nested_delimiter="__"
    )

    listen: Annotated[list[Endpoint], Field(min_length=1)] = ["tcp:7777"]
    workers: Workers = 1
    proxy: Proxy = Field(default_factory=Proxy)
    admin: Admin = Field(default_factory=Admin)
    pow: Pow = Field(default_factory=Pow)
    keys: Keys = Field(default_factory=Keys)
    spent: Spent = Field(default_factory=Spent)
    limits: Limits = Field(default_factory=Limits)
    quotes: Quotes = Field(default_factory=Quotes)
    log: Log = Field(default_factory=Log)
    tracing: Tracing = Field(default_factory=Tracing)

    @property
    def endpoints(self) -> dict[str, endpoint.Endpoint]:
        """Where clients are served, by key."""
        return {f"listen.{index}": endpoint.parse(text) for index, text in enumerate(self.listen)}


def _misspelt(environ: Mapping[str, str]) -> Iterator[str]:
    """What would be taken for a stranger's variable, and was meant for us."""
    for section, field in Settings.model_fields.items():
        for key in getattr(field.annotation, "model_fields", ()):
            name = f"{_PREFIX}{section}_{key}".upper()
            if name in environ:
                meant = f"{_PREFIX}{section}__{key}".upper()
                yield f"{name}: unknown variable; with two underlines, {meant}, it is a setting"


# Sources of settings


class _Environment(EnvSettingsSource):
    """The variables C{WOW_SECTION__KEY} of a given environment."""

    def __init__(self, settings: type[BaseSettings], environ: Mapping[str, str]) -> None:
        self._environ = {
            name.lower(): value
            for name, value in environ.items()
            if name.upper().startswith(_PREFIX) and name.upper() != _KEYS
        }
        super().__init__(settings)

    def _load_env_vars(self) -> Mapping[str, str]:
        return self._environ

    def decode_complex_value(self, field_name: str, field: Any, value: Any) -> Any:
        # What is no JSON is of the wrong type, and so reported with the rest.
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value

    def __call__(self) -> dict[str, Any]:
        return {**dict(self._unknown_sections()), **super().__call__()}

    def _unknown_sections(self) -> Iterator[tuple[str, Any]]:
        # Only names with the double underline: Kubernetes makes variables
        # like WOW_PORT of its own accord.
        for name, value in self._environ.items():
            section, nested, _ = name.removeprefix(_PREFIX.lower()).partition("__")
            if nested and section not in self.settings_cls.model_fields:
                yield section, value


def load(path: str | None, environ: Mapping[str, str]) -> Settings:
    """
    Read and check the configuration.

    @param path: a YAML file, or None for the defaults.
    @raise ConfigError: with all that is wrong with it.
    """
    content = {} if path is None else _read(path)

    class Sourced(Settings):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *_: Any, **__: Any
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            # A section that is not there is not checked, and whether the
            # default place can be used depends on where this runs.
            given = {"spent": {}, **content}
            return _Environment(settings_cls, environ), InitSettingsSource(settings_cls, given)

    problems = [*_key_problems(environ), *_misspelt(environ)]
    try:
        settings = Sourced()
    except ValidationError as invalid:
        problems = [*_problems(invalid), *problems]
    else:
        problems += _secret_problems(settings, environ)
        problems += [*_proxy_problems(settings), *_admin_problems(settings.admin, environ)]
    if problems:
        raise ConfigError(problems)
    # As what it is called, so that it can be handed to another process.
    return Settings.model_construct(**settings.__dict__)


def _read(path: str) -> dict[str, Any]:
    try:
        content = yaml.load(Path(path).read_bytes(), _Loader)  # noqa: S506 (it is a SafeLoader)
    except OSError as failed:
        raise ConfigError([f"{path} cannot be read: {failed.strerror}"]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as bad:
        raise ConfigError([f"{path} is not YAML: {_where(bad)}"]) from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError([f"{path} is not a mapping of sections"])
    return content


class _RepeatedKey(yaml.MarkedYAMLError):
    pass


class _Loader(SafeLoader):
    """YAML in which a key stands once in a mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise _RepeatedKey(None, None, "a key stands there twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _where(bad: Exception) -> str:
    # Nothing of the lines themselves is shown: one may hold a secret.
    mark = getattr(bad, "problem_mark", None)
    place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    telling = (yaml.scanner.ScannerError, yaml.parser.ParserError, _RepeatedKey)
    problem = bad.problem if isinstance(bad, telling) else type(bad).__name__
    return f"{problem}{place}"


def _problems(invalid: ValidationError) -> Iterator[str]:
    # Values are not repeated: one may be a secret.
    for error in invalid.errors(include_url=False, include_input=False, include_context=False):
        key = _key(error["loc"])
        message = _WORDS.get(error["type"], error["msg"].removeprefix("Value error, "))
        if key in _RENAMED:
            message = f"is now {_RENAMED[key]}"
        yield f"{key}: {message}"


def _key(location: tuple[int | str, ...]) -> str:
    parts = [str(part) for part in location]
    if "headers" in parts:
        # A header written without its space is all key, its secret with it.
        parts = parts[: parts.index("headers") + 1]
    return ".".join(parts)


_WORDS = {
    "extra_forbidden": "unknown key",
    "missing": "is missing",
    "int_parsing": "must be a whole number, such as 1048576",
    "float_parsing": "must be a number",
    "list_type": "must be a list: [a, b], or [] for none; in the environment as JSON",
    "model_type": "must be a mapping of keys",
    "multiple_of": "must be a multiple of 8",
}
_RENAMED = {"limits.rate": "limits.challenge_rate", "limits.burst": "limits.challenge_burst"}


def _key_problems(environ: Mapping[str, str]) -> Iterator[str]:
    try:
        keys.find(None, environ)
    except keys.BadKey as bad:
        yield f"keys: {bad}"


def _secret_problems(settings: Settings, environ: Mapping[str, str]) -> Iterator[str]:
    for key, value in _named_secrets(settings):
        try:
            reveal(value, environ)
        except ValueError as missing:
            yield f"{key}: {missing}"


def _named_secrets(settings: Settings) -> Iterator[tuple[str, str]]:
    if settings.spent.password is not None:
        yield "spent.password", settings.spent.password
    for source in settings.quotes.enabled:
        for header, value in source.headers.items() if isinstance(source, Http) else ():
            yield f"quotes.sources.{source.name}.headers.{header}", value
    if settings.tracing.endpoint is not None:
        for header, value in settings.tracing.headers.items():
            yield f"tracing.headers.{header}", value


def _proxy_problems(settings: Settings) -> Iterator[str]:
    for key, each in settings.endpoints.items():
        # Who may open a Unix socket is decided by its permissions.
        unix = each.base.startswith("unix:")
        if each.proxied and not unix and not settings.proxy.networks:
            yield (
                f"proxy.networks: must say where your balancers are, since {key} is haproxy: "
                "and whoever can connect to it can say that he is anybody"
            )


def _admin_problems(admin: Admin, environ: Mapping[str, str]) -> Iterator[str]:
    if admin.token is not None:
        try:
            bearer.check(reveal(admin.token, environ))
        except ValueError as bad:
            yield f"admin.token: {bad}"
    if admin.client_ca is not None and admin.endpoint.tls is None:
        yield "admin.client_ca: is for TLS, and admin.listen asks for none: let it begin with ssl:"
    elif admin.token is None and admin.client_ca is None and not endpoint.is_local(admin.endpoint):
        yield (
            "admin.listen: may be reached from other machines, so there must be admin.token, for "
            "operators to show, or admin.client_ca, for certificates that they have; or listen on "
            "loopback alone, as tcp:7778:interface=127.0.0.1 does"
        )


def dump(settings: Settings) -> str:
    """The configuration in force as YAML, its secrets masked."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
