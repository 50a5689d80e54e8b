"""Who may talk to the server: nobody's web page, and beyond this machine only with the key.

Rules of this file:
- A browser names its page's origin and the host it thinks it talks to. Both must be ours or
  allowed, so that no web page can drive a local model, not even by rebinding a name.
- The status page itself needs no key, since it holds nothing; whatever it asks for does.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence

from .config import ServerConfig, is_loopback
from .errors import Forbidden, Unauthorized

_BRACKETED = re.compile(r"\[([^]]+)\](?::\d*)?")


def check_access(
    config: ServerConfig, headers: Mapping[str, str], *, asks_key: bool = True
) -> None:
    """Raise RequestError if these request headers are not let in."""
    host = _host_name(headers.get("Host") or "")
    is_local = is_loopback(config.host) and not config.uds
    if host and is_local and not is_loopback(host):
        raise Forbidden(
            f"This server answers to its own machine only, not to the host name {host[:80]!r}. "
            "Use http://127.0.0.1, or start it with --host and --api-key."
        )
    origin = headers.get("Origin")
    # Where a host is checked, or a key asked for, our own page can't be another's in disguise.
    ours = (is_local or bool(config.keys)) and _is_own_page(origin, headers.get("Host"))
    if origin and not ours and not _origin_allowed(config, origin):
        raise Forbidden(
            f"Web pages of {origin[:80]!r} may not use this server. "
            "Start it with --allowed-origins to let them in."
        )
    if not origin and "*" not in config.allowed_origins and _from_another_page(headers):
        raise Forbidden(
            "Web pages of other sites may not use this server, and this request does not say which "
            "it comes from. Start it with --allowed-origins to let some in, and use fetch there."
        )
    if asks_key and config.keys and not _key_given(config.keys, headers):
        raise Unauthorized("The API key is missing or wrong. Send it as 'Authorization: Bearer'.")


def cors_headers(config: ServerConfig, origin: str | None) -> dict[str, str]:
    """Return the headers that let an allowed web page read the answer."""
    if not origin or not _origin_allowed(config, origin):
        return {}
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
        "Access-Control-Allow-Headers": "*, Authorization, Content-Type",
        "Vary": "Origin",
    }


def _origin_allowed(config: ServerConfig, origin: str) -> bool:
    return "*" in config.allowed_origins or origin in config.allowed_origins


def _is_own_page(origin: str | None, host: str | None) -> bool:
    """Return whether a page comes from the very address that it asks."""
    return bool(host) and origin in (f"http://{host}", f"https://{host}")


def _host_name(host: str) -> str:
    if bracketed := _BRACKETED.fullmatch(host):
        return bracketed[1]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def _from_another_page(headers: Mapping[str, str]) -> bool:
    """Return whether a page of another site asks for this; following a link to here is no such."""
    site, mode = headers.get("Sec-Fetch-Site") or "", headers.get("Sec-Fetch-Mode") or ""
    return site in ("cross-site", "same-site") and mode != "navigate"


def _key_given(keys: Sequence[str], headers: Mapping[str, str]) -> bool:
    scheme, _, token = (headers.get("Authorization") or "").partition(" ")
    given = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key") or ""
    # Each is compared, so that the time tells nothing.
    matches = [hmac.compare_digest(given.encode(), key.encode()) for key in keys]
    return any(matches)
