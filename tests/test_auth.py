"""Who is let in, by the headers of a request."""

from __future__ import annotations

from email.message import Message
from typing import Any

import pytest

from mlx_tools_server.auth import check_access, cors_headers
from mlx_tools_server.config import ServerConfig
from mlx_tools_server.errors import Forbidden, Unauthorized

LOOPBACK = ServerConfig()
KEYED = ServerConfig(api_key="s3cret")
PUBLIC = ServerConfig(host="0.0.0.0", api_key="s3cret")
ALLOWING = ServerConfig(allowed_origins=("http://localhost:3000", "app://obsidian.md"))
OPEN = ServerConfig(allowed_origins=("*",))
BEARER = {"Authorization": "Bearer s3cret"}
SEVERAL = ServerConfig(api_key="s3cret", api_key_file=("second", "third"))
SOCKET = ServerConfig(uds="/tmp/s")


def headers(**values: str) -> Any:
    """Return headers as an HTTP server has them: found whatever the case of their names."""
    message = Message()
    for name, value in values.items():
        message[name.replace("_", "-")] = value
    return message


LET_IN: dict[str, tuple[ServerConfig, dict[str, str]]] = {
    "no headers at all": (LOOPBACK, {}),
    "an address with a port": (LOOPBACK, {"Host": "127.0.0.1:8080"}),
    "an address without a port": (LOOPBACK, {"Host": "127.0.0.1"}),
    "another address of this machine": (LOOPBACK, {"Host": "127.8.0.1:80"}),
    "localhost": (LOOPBACK, {"Host": "localhost:8080"}),
    "localhost in capitals": (LOOPBACK, {"host": "LocalHost"}),
    "IPv6 with a port": (LOOPBACK, {"Host": "[::1]:8080"}),
    "IPv6 without a port": (LOOPBACK, {"Host": "[::1]"}),
    "bare IPv6": (LOOPBACK, {"Host": "::1"}),
    "an empty host": (LOOPBACK, {"Host": ""}),
    "any host beyond loopback": (PUBLIC, {"Host": "studio.local:8080", **BEARER}),
    "an allowed page": (ALLOWING, {"Host": "localhost", "Origin": "http://localhost:3000"}),
    "an allowed app": (ALLOWING, {"Origin": "app://obsidian.md"}),
    "any page where all are allowed": (OPEN, {"Origin": "https://anywhere.example"}),
    "the key as bearer": (KEYED, BEARER),
    "the key as bearer in small letters": (KEYED, {"authorization": "bearer s3cret"}),
    "the key with blanks around": (KEYED, {"Authorization": "Bearer  s3cret "}),
    "the key in Anthropic's header": (KEYED, {"X-Api-Key": "s3cret"}),
    "Anthropic's header beside another scheme": (
        KEYED, {"Authorization": "Basic eDp5", "x-api-key": "s3cret"}
    ),
    "the first of several keys": (SEVERAL, BEARER),
    "the last of several keys": (SEVERAL, {"X-Api-Key": "third"}),
    "any host on a unix socket": (SOCKET, {"Host": "whatever"}),
    "our own page": (LOOPBACK, {"Host": "[::1]:8080", "Origin": "http://[::1]:8080"}),
    "our own page beyond loopback": (
        PUBLIC, {"Host": "studio.local:80", "Origin": "http://studio.local:80", **BEARER}
    ),
    "our own page behind TLS": (
        PUBLIC, {"Host": "llm.example", "Origin": "https://llm.example", **BEARER}
    ),
    "an image where all pages are allowed": (OPEN, {"Sec-Fetch-Site": "cross-site"}),
    "a link that was followed": (
        LOOPBACK, {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    ),
    "an address that was typed": (LOOPBACK, {"Sec-Fetch-Site": "none"}),
    "any key where none is asked for": (LOOPBACK, {"Authorization": "Bearer whatever"}),
}  # fmt: skip


@pytest.mark.parametrize("name", LET_IN)
def test_let_in(name: str) -> None:
    """Programs of this machine, allowed pages, and holders of the key are let in."""
    config, values = LET_IN[name]

    check_access(config, headers(**values))


KEPT_OUT: dict[str, tuple[ServerConfig, dict[str, str]]] = {
    "a foreign host": (LOOPBACK, {"Host": "evil.example"}),
    "a foreign host with a port": (LOOPBACK, {"Host": "evil.example:8080"}),
    "a host that starts like ours": (LOOPBACK, {"Host": "localhost.evil.example"}),
    "an address that starts like ours": (LOOPBACK, {"Host": "127.0.0.1.evil.example:80"}),
    "an address of the network": (LOOPBACK, {"Host": "192.168.1.5:8080"}),
    "every address": (LOOPBACK, {"Host": "0.0.0.0:8080"}),
    "a foreign IPv6": (LOOPBACK, {"Host": "[2001:db8::1]:8080"}),
    "an unclosed IPv6 of a foreign name": (LOOPBACK, {"Host": "[evil.example"}),
    "an IPv6 of ours with a foreign name behind": (LOOPBACK, {"Host": "[::1].evil.example"}),
    "a name in brackets and a foreign one": (LOOPBACK, {"Host": "[localhost]evil.example:80"}),
    "a host with two ports": (LOOPBACK, {"Host": "evil.example:80:127.0.0.1"}),
    "a foreign host where pages are allowed": (OPEN, {"Host": "evil.example"}),
    "a foreign host with the key": (KEYED, {"Host": "evil.example", **BEARER}),
    "a foreign page": (LOOPBACK, {"Host": "127.0.0.1", "Origin": "https://evil.example"}),
    "a page of another port": (LOOPBACK, {"Host": "localhost", "Origin": "http://localhost:99"}),
    "a page of no origin": (LOOPBACK, {"Origin": "null"}),
    "a page of no origin and no host": (LOOPBACK, {"Host": "", "Origin": "http://"}),
    "a page of a name that leads here": (
        LOOPBACK, {"Host": "evil.example", "Origin": "http://evil.example"}
    ),
    "a page of a name that leads to a socket": (
        SOCKET, {"Host": "evil.example", "Origin": "http://evil.example"}
    ),
    "a page that starts like an allowed one": (
        ALLOWING, {"Origin": "http://localhost:3000.evil.example"}
    ),
    "an allowed page in another scheme": (ALLOWING, {"Origin": "https://localhost:3000"}),
    "an image in a foreign page": (
        LOOPBACK, {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    ),
    "an image in any page where some are allowed": (ALLOWING, {"Sec-Fetch-Site": "cross-site"}),
    "a script in a page of another port": (SOCKET, {"Sec-Fetch-Site": "same-site"}),
    "a foreign page with the key": (KEYED, {"Origin": "https://evil.example", **BEARER}),
    "a foreign page beyond loopback": (PUBLIC, {"Origin": "https://evil.example", **BEARER}),
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT_OUT)
def test_kept_out(name: str) -> None:
    """A page or a host name that is not ours is refused, with what to do about it."""
    config, values = KEPT_OUT[name]

    with pytest.raises(Forbidden) as caught:
        check_access(config, headers(**values))

    assert "--" in caught.value.message
    assert cors_headers(config, values.get("Origin")) == {}


WRONG_KEYS: dict[str, dict[str, str]] = {
    "no key": {},
    "an empty bearer": {"Authorization": "Bearer "},
    "another key": {"Authorization": "Bearer other"},
    "the start of the key": {"Authorization": "Bearer s3cre"},
    "the key and more": {"Authorization": "Bearer s3cret more"},
    "the key without its scheme": {"Authorization": "s3cret"},
    "the key in another scheme": {"Authorization": "Basic s3cret"},
    "letters beyond ASCII": {"Authorization": "Bearer schlüssel"},
    "an empty key in Anthropic's header": {"x-api-key": ""},
}


@pytest.mark.parametrize("config", [KEYED, PUBLIC, SEVERAL], ids=["loopback", "public", "several"])
@pytest.mark.parametrize("name", WRONG_KEYS)
def test_wrong_key(name: str, config: ServerConfig) -> None:
    """Without the key nobody is let in, on loopback or beyond; the key is not repeated."""
    with pytest.raises(Unauthorized) as caught:
        check_access(config, headers(**WRONG_KEYS[name]))

    assert "s3cret" not in caught.value.message


def test_long_names_are_not_repeated() -> None:
    """A refusal shows the start of what was sent."""
    with pytest.raises(Forbidden) as caught:
        check_access(LOOPBACK, headers(Host="x" * 10_000))

    assert len(caught.value.message) < 400


def test_cors() -> None:
    """An allowed page may read the answer; nobody else, and never everybody."""
    allowed = cors_headers(ALLOWING, "http://localhost:3000")

    assert allowed["Access-Control-Allow-Origin"] == "http://localhost:3000"
    assert allowed["Vary"] == "Origin"
    assert cors_headers(OPEN, "https://a.example")["Access-Control-Allow-Origin"] != "*"
    assert cors_headers(ALLOWING, "https://evil.example") == {}
    assert cors_headers(ALLOWING, None) == {}
    assert cors_headers(LOOPBACK, "null") == {}
