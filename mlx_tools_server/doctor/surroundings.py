"""What the server needs around it: its cache folder, its port, and open files.

Rules of this file:
- Nothing is made, changed or deleted; a port is bound for a moment and given back.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import resource
import shutil
import socket
import subprocess
import time
from pathlib import Path

from ..budgets import DISK_FLOOR, size
from ..config import ServerConfig
from ..kv import entries
from ..open_files import SPARE_FILES
from ..places import KV_FILES, kv_folder
from .finding import Finding

# Seconds that records of the cache are read for; a large cache takes minutes.
READING = 5.0
# The longest path of a unix socket on macOS; Linux allows a few more.
LONGEST_SOCKET = 103


# --- The cache folder ---------------------------------------------------------------------------


def check_cache(config: ServerConfig, *, fast: bool) -> list[Finding]:
    """Whether the cache folder can be used, is private, has room, and is intact."""
    folder = kv_folder(config)
    if folder is None:
        return [Finding("cache", "ok", "nothing is kept on disk (--no-kv-disk)")]
    place = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    if not place.is_dir():
        remedy = "Give another folder with --kv-dir."
        return [Finding("cache", "problem", f"{place} is not a folder", remedy)]
    if not os.access(place, os.W_OK | os.X_OK):
        remedy = f"Make it yours (chown, chmod 700 {place}), or give another one with --kv-dir."
        return [Finding("cache", "problem", f"{place} can't be written to", remedy)]
    found = [*_privacy(folder), *_room(place)]
    if folder.exists():
        kept, damaged = _kept(folder, fast=fast)
        found += damaged
    else:
        kept = "will be made at the first start"
    free = size(shutil.disk_usage(place).free)
    return found or [Finding("cache", "ok", f"{folder}: {kept}; {free} free")]


def _privacy(folder: Path) -> list[Finding]:
    if not folder.exists():
        return []
    state = folder.stat()
    if state.st_uid != os.geteuid():
        remedy = f"sudo chown -R $(id -un) {folder}, or give another one with --kv-dir."
        return [Finding("cache", "warning", f"{folder} belongs to another user", remedy)]
    if state.st_mode & 0o077:
        seen = f"{folder} can be opened by others (mode {state.st_mode & 0o777:o})"
        return [Finding("cache", "warning", seen, f"chmod 700 {folder}")]
    return []


def _room(place: Path) -> list[Finding]:
    free = shutil.disk_usage(place).free
    if free >= DISK_FLOOR:
        return []
    seen = f"{size(free)} are free; below {size(DISK_FLOOR)} nothing is kept on disk"
    remedy = "Free some space, or give a folder on another disk with --kv-dir."
    return [Finding("cache", "warning", seen, remedy)]


def _kept(folder: Path, *, fast: bool) -> tuple[str, list[Finding]]:
    """Return what is kept, in words, and what is damaged."""
    records = list(entries(folder / KV_FILES))
    kept = f"{len(records)} records, {size(sum(each.nbytes for each in records))}"
    if fast or not records:
        return kept, []
    until, read, bad = time.monotonic() + READING, 0, 0
    for each in records:
        if time.monotonic() > until:
            break
        read += 1
        with contextlib.suppress(FileNotFoundError):  # a running server makes room
            bad += not each.intact()
    if bad:
        seen = f"{bad} of {read} records in {folder} are damaged; each is only a miss"
        return kept, [Finding("cache", "warning", seen, "mlx-tools-server cache verify")]
    return f"{kept}, {'all' if read == len(records) else read} read and intact", []


# --- The port -----------------------------------------------------------------------------------


def check_port(config: ServerConfig) -> Finding:
    """Whether the server could listen where it is told to."""
    if config.uds:
        return _check_socket(Path(config.uds))
    place = f"{config.host}:{config.port}"
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            # As the server does, so that what a former one left behind is no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        return _taken(config, place, error)
    seen = "any that is free" if config.port == 0 else f"{place} is free"
    return Finding("port", "ok", seen)


def _taken(config: ServerConfig, place: str, error: OSError) -> Finding:
    if error.errno != errno.EADDRINUSE:
        remedy = "Choose a --port from 1024 on, or another --host."
        return Finding("port", "problem", f"{place}: {error.strerror or error}", remedy)
    if status := _our_server(config):
        seen = f"{place}: a server of this kind listens there already ({status})"
        return Finding("port", "warning", seen, "Use that one, or choose another --port.")
    seen = f"{place} is in use{_owner(config.port)}"
    return Finding("port", "problem", seen, "Stop what uses it, or choose another --port.")


def _our_server(config: ServerConfig) -> str:
    """Return what a server of ours says of itself there; "" if it is none."""
    connection = http.client.HTTPConnection(config.host, config.port, timeout=1.0)
    try:
        connection.request("GET", "/livez")
        told = json.loads(connection.getresponse().read(1000))
    except (OSError, ValueError, http.client.HTTPException):
        return ""
    finally:
        connection.close()
    if not isinstance(told, dict):
        return ""
    # With a key it says only that one is needed.
    locked = isinstance(told.get("error"), dict) and told["error"].get("code") == "invalid_api_key"
    return "it asks for its key" if locked else str(told.get("status") or "")[:20]


def _owner(port: int) -> str:
    """Return who listens there, as far as this user may know."""
    if not (lsof := shutil.which("lsof")):
        return ""
    command = [lsof, "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        told = subprocess.run(command, capture_output=True, text=True, timeout=3, check=False)
        fields = {line[:1]: line[1:] for line in reversed(told.stdout.splitlines())}
        if "c" in fields:
            return f" by {fields['c']} (process {fields.get('p', '?')})"
    return ""


def _check_socket(path: Path) -> Finding:
    remedy = "Give a path that is free and short."
    if len(os.fsencode(path)) > LONGEST_SOCKET:
        return Finding("port", "problem", f"the path of the socket {path} is too long", remedy)
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return Finding("port", "problem", f"{path.parent} can't be written to", remedy)
    if not os.path.lexists(path):
        return Finding("port", "ok", f"unix:{path} is free")
    if not path.is_socket():
        return Finding("port", "problem", f"{path} is there, and no socket", remedy)
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(os.fspath(path))
        except OSError:
            return Finding("port", "ok", f"unix:{path} was left by a server that is gone")
    return Finding("port", "problem", f"another server listens at unix:{path}", remedy)


# --- Open files ---------------------------------------------------------------------------------


def check_files(config: ServerConfig, limits: tuple[int, int] | None = None) -> Finding:
    """Whether the process may open a file for each connection."""
    soft, hard = limits or resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = config.max_connections + SPARE_FILES
    facts = {"soft": soft, "hard": hard, "wanted": wanted}
    if hard == resource.RLIM_INFINITY or hard >= wanted:
        return Finding("files", "ok", f"{wanted:,} may be needed, and can be had", "", facts)
    seen = f"{wanted:,} may be needed, and at most {hard:,} can be open"
    remedy = f"Raise the hard limit: ulimit -Hn {wanted}, or LimitNOFILE= in systemd."
    if hard > SPARE_FILES:
        remedy += f" Or use --max-connections {hard - SPARE_FILES}."
    return Finding("files", "warning", seen, remedy, facts)
