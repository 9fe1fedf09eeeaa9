"""
The least that could do the work: C{Int32StringReceiver} in a loop.

It reads, signs, hashes and writes what wow does, with nothing around it: no
time-outs, no limits, no metrics, no log, no quotes, no mark. What wow costs
above this is the price of being a service.

Run as C{python -m bench.bare DIRECTORY}; it prints its port and serves until
it is terminated.
"""

from __future__ import annotations

import hmac
import os
import struct
import sys
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import Any

import lmdb
import msgspec
from twisted.internet import reactor
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ServerFactory
from twisted.protocols.basic import Int32StringReceiver

from wow.wire import Challenge, ClientMessage, Quote, Solution

KEY = bytes(range(32))
CONTEXT = b"wow/challenge/v1\x00"
HEAD = struct.Struct(">BBBBI4sQ16s")
ROUNDS, ROUND_EFFORT = 8, 1
TARGET = (2**64 - 1) // ROUND_EFFORT
TTL_MS = 60_000
QUOTE = Quote("The unexamined life is not worth living.", "Socrates", "collection")


class Work:
    """What each server must do for an exchange."""

    def __init__(self, store: lmdb.Environment, host: str) -> None:
        self._store = store
        self._binding = b"\x04" + bytes(map(int, host.split(".")))

    def answer(self, message: ClientMessage) -> Challenge | Quote:
        return self._redeem(message) if isinstance(message, Solution) else self._issue()

    def _issue(self) -> Challenge:
        expiry = time.time_ns() // 1_000_000 + TTL_MS
        head = HEAD.pack(1, 1, ROUNDS, 5, ROUND_EFFORT, b"key1", expiry, os.urandom(16))
        payload = head + b"quote"
        tag = hmac.digest(KEY, CONTEXT + payload + self._binding, "sha256")
        token = urlsafe_b64encode(payload + tag).rstrip(b"=").decode()
        return Challenge(token, ROUNDS, ROUND_EFFORT, f"{TARGET:016x}", 60.0)

    def _redeem(self, solution: Solution) -> Quote:
        token = solution.challenge
        sealed = urlsafe_b64decode(token + "=" * (-len(token) % 4))
        payload, tag = sealed[:-32], sealed[-32:]
        expected = hmac.digest(KEY, CONTEXT + payload + self._binding, "sha256")
        assert hmac.compare_digest(expected, tag)
        expiry = HEAD.unpack_from(payload)[6]
        assert time.time_ns() // 1_000_000 <= expiry
        for index, nonce in enumerate(solution.nonces):
            digest = sha256(f"{token}:{index}:{nonce}".encode()).digest()
            assert int.from_bytes(digest[:8], "big") <= TARGET
        with self._store.begin(write=True) as transaction:
            assert transaction.put(payload[12:36], b"", overwrite=False)
        return QUOTE


class Bare(Int32StringReceiver):
    transport: Any
    MAX_LENGTH = 4096
    decoder = msgspec.json.Decoder(ClientMessage)
    encoder = msgspec.json.Encoder()

    def __init__(self, store: lmdb.Environment) -> None:
        self.store = store

    def connectionMade(self) -> None:
        self.work = Work(self.store, self.transport.getPeer().host)

    def stringReceived(self, frame: bytes) -> None:
        self.sendString(self.encoder.encode(self.work.answer(self.decoder.decode(frame))))


class BareFactory(ServerFactory):
    noisy = False

    def __init__(self, store: lmdb.Environment) -> None:
        self._store = store

    def buildProtocol(self, addr: IAddress | None) -> Bare:
        return Bare(self._store)


def main(directory: str) -> None:
    store = lmdb.open(directory, map_size=2**30, sync=False)
    port = reactor.listenTCP(0, BareFactory(store), backlog=1024, interface="127.0.0.1")
    print(port.getHost().port, flush=True)  # type: ignore[attr-defined]
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1])
