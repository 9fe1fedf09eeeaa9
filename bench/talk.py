"""An exchange in plain words: one blocking socket, one message after the other."""

from __future__ import annotations

import json
import socket

from bench import messages

REQUEST = messages.framed(b'{"type":"request","resource":"quote"}')


def ask(connection: socket.socket) -> messages.Message:
    """
    Ask for a challenge.

    @return: the server's answer, whatever it is.
    @raise OSError: if there is none.
    @raise ValueError: if it is no message.
    """
    connection.sendall(REQUEST)
    return _hear(connection)


def hand_in(connection: socket.socket, challenge: messages.Message) -> messages.Message:
    """
    Hand in a solution to a challenge that any nonces solve.

    @return: the server's answer, whatever it is.
    @raise OSError: if there is none.
    @raise ValueError: if it is no message.
    """
    nonces = [1000] * challenge["rounds"]
    connection.sendall(messages.solution(challenge["challenge"], nonces))
    return _hear(connection)


def _hear(connection: socket.socket) -> messages.Message:
    data = b""
    while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
        more = connection.recv(65536)
        if not more:
            raise ConnectionError("it hung up")
        data += more
    message = json.loads(data[4:])
    if not isinstance(message, dict):
        raise ValueError("not an object")
    return message
