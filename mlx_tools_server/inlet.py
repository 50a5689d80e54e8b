"""What comes in over one connection: bytes within their time, bodies within their size.

Rules of this file:
- Time is counted for a whole request, not for each of its bytes: who sends one byte a minute is
  as slow as who sends none.
- How long a body is must be said in one way only; headers and bodies that two readers could read
  differently are refused: what one of them takes for a body is the next request to the other.
"""

from __future__ import annotations

import re
import socket
import time
from email.message import Message
from typing import Any, BinaryIO

from .errors import BadRequest, LengthRequired, RequestTimeout, TooLarge, UnsupportedMedia

# Seconds in which a request's headers must be there, and its body.
HEADER_SECONDS = 10.0
BODY_SECONDS = 120.0
# Seconds a connection may idle between two requests.
IDLE_SECONDS = 120.0
# Seconds a client may take to read what it was sent.
WRITE_SECONDS = 120.0

_MAX_LINE = 4096
_MAX_TRAILERS = 100
_SIZE = re.compile(rb"[0-9a-fA-F]{1,15}")
_HEADER = re.compile(rb"[\w!#$%&'*+.^`|~-]+:[^\0\r\n]*\r?\n", re.ASCII)
# What may stand around a value; Python's own `strip` takes more.
_BLANK = " \t"


class Inlet(socket.SocketIO):
    """Reads a socket until a point in time that `allow` sets; then it raises TimeoutError."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection, "rb")
        self._connection = connection
        self._until = 0.0

    def allow(self, seconds: float) -> None:
        """Let what is read next take this long, all in all."""
        self._until = time.monotonic() + seconds

    def readinto(self, buffer: Any) -> int | None:
        """Read what is there, waiting for it within the time that is left."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        try:
            return super().readinto(buffer)
        finally:
            self._connection.settimeout(WRITE_SECONDS)


class HeaderLines:
    """Reads the lines of a request's headers; raises BadRequest at one that is none."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readline(self, limit: int) -> bytes:
        """Return the next line, which is empty behind the last header."""
        line = self._stream.readline(limit)
        # The email parser would end the headers here, or begin another at a lone CR.
        if line.strip(b"\r\n") and line.endswith(b"\n") and not _HEADER.fullmatch(line):
            # Its value may be a key.
            shown = line.partition(b":")[0][:40].rstrip(b"\r\n").decode("latin-1")
            raise BadRequest(
                f"The header {shown!r} is malformed. Send a name, a colon and a value in one line, "
                "without a space before the colon."
            )
        return line


def body_length(headers: Message) -> int | None:
    """Return the length of a request's body, None if it comes in chunks; raises RequestError."""
    codings, lengths = headers.get_all("Transfer-Encoding"), headers.get_all("Content-Length")
    if codings is not None:
        if [coding.strip(_BLANK).lower() for coding in codings] != ["chunked"]:
            raise BadRequest(
                f"Transfer-Encoding must be 'chunked', not {', '.join(codings)[:40]!r}."
            )
        if lengths is not None:
            raise BadRequest("Send Content-Length or Transfer-Encoding, not both.")
        return None
    if lengths is None:
        return 0
    length = lengths[0].strip(_BLANK)
    if len(set(lengths)) > 1 or not (length.isascii() and length.isdecimal()) or len(length) > 18:
        raise BadRequest(f"Content-Length must be one number, not {', '.join(lengths)[:40]!r}.")
    return int(length)


def read_body(stream: BinaryIO, headers: Message, limit: int) -> bytes:
    """Return the body of a request; raises RequestError.

    Its Content-Type is not looked at, but for forms: many clients send none, or a wrong one.
    """
    encoding = (headers.get("Content-Encoding") or "identity").strip().lower()
    if encoding != "identity":
        raise UnsupportedMedia(f"Send the body as it is, not in {encoding[:40]!r}.")
    if headers.get_content_maintype() == "multipart":
        raise UnsupportedMedia("Send the body as JSON, with Content-Type: application/json.")
    length = body_length(headers)
    if length == 0 and headers.get("Content-Length") is None:
        raise LengthRequired("Send a body of JSON, with Content-Length or in chunks.")
    if length is not None and length > limit:
        raise TooLarge(_too_large(limit))
    try:
        if length is not None:
            return _read_exactly(stream, length)
        return _read_chunks(stream, limit)
    except TimeoutError:
        raise RequestTimeout(f"The body did not come within {BODY_SECONDS:g} s.") from None


def _too_large(limit: int) -> str:
    return (
        f"The body has more than the {limit} bytes that are accepted. Send less, or start the "
        "server with a larger --max-body."
    )


def _read_chunks(stream: BinaryIO, limit: int) -> bytes:
    body = bytearray()
    while True:
        size = _SIZE.fullmatch(_read_line(stream).partition(b";")[0].strip(b" \t"))
        if size is None:
            raise BadRequest("The chunked body is malformed: a chunk has no size.")
        length = int(size[0], 16)
        if len(body) + length > limit:
            raise TooLarge(_too_large(limit))
        if not length:
            break
        body += _read_exactly(stream, length)
        if _read_line(stream):
            raise BadRequest("The chunked body is malformed: a chunk is longer than its size.")
    for _ in range(_MAX_TRAILERS):
        if not _read_line(stream):
            return bytes(body)
    raise BadRequest("The chunked body has too many trailers.")


def _read_exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise ConnectionAbortedError
    return data


def _read_line(stream: BinaryIO) -> bytes:
    line = stream.readline(_MAX_LINE)
    if not line:
        raise ConnectionAbortedError
    if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
        raise BadRequest(
            "The chunked body is malformed: a line is too long, or not ended by CR LF."
        )
    return line[:-2]
