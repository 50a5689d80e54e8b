"""One frozen `ServerConfig`, with all that can be set.

Rules of this file:
- A setting is one field; its flags, kind and help stand beside it and nowhere else.
- Names and defaults are upstream's, so that upstream's engine can be given these values.
- Whoever gave a bad value reads where it came from, what is wrong and what would be right.
- `--help` is made of this file, so nothing heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from .errors import StartupError
from .options import (
    BITS,
    CONSTRAIN,
    COUNT,
    FROM_ZERO,
    GROUP_SIZE,
    HISTORY,
    HISTORY_THINKING,
    KEY,
    KEYS,
    LEVEL,
    LOG_FORMAT,
    NUMBER,
    OBJECT,
    ORIGINS,
    PATH,
    PORT,
    REASONING,
    SAMPLER,
    SHARE,
    SIZE,
    SOCKET,
    SWITCH,
    TEMPLATE,
    TEXT,
    Option,
    option,
)
from .sources import env_name, find

PROG = "mlx-tools-server"
MODEL, SERVER, SAMPLING, MEMORY = "model", "server", "generation defaults", "speed and memory"
LIMITS = "limits"


# --- The settings -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Every setting of the server; `sources` says where each that was given came from."""

    model: str | None = field(
        default=None,
        metadata=option(
            MODEL, PATH, "--model-path --model", "the model's folder; --model also takes a hub id"
        ),
    )
    demo: bool = field(
        default=False,
        metadata=option(
            MODEL,
            SWITCH,
            "--demo",
            "serve the built-in model, with no download; also --model-path demo",
        ),
    )
    model_name: str | None = field(
        default=None,
        metadata=option(
            MODEL, TEXT, "--model-name", "id shown in /v1/models (default: the folder's name)"
        ),
    )
    context_length: int | None = field(
        default=None,
        metadata=option(
            MODEL, COUNT, "--context-length", "tokens of prompt plus answer (default: the model's)"
        ),
    )
    adapter_path: str | None = field(
        default=None, metadata=option(MODEL, PATH, "--adapter-path", "folder of a trained adapter")
    )
    trust_remote_code: bool = field(
        default=False,
        metadata=option(
            MODEL, SWITCH, "--trust-remote-code", "run Python code that comes with the model"
        ),
    )
    chat_template: str = field(
        default="",
        metadata=option(
            MODEL, TEMPLATE, "--chat-template", "template in place of the model's: a file or text"
        ),
    )
    use_default_chat_template: bool = field(
        default=False,
        metadata=option(
            MODEL, SWITCH, "--use-default-chat-template", "the tokenizer's, if the model has none"
        ),
    )
    chat_template_args: Mapping[str, Any] = field(
        default_factory=dict,
        metadata=option(
            MODEL, OBJECT, "--chat-template-args", "such as '{\"enable_thinking\": false}'"
        ),
    )
    draft_model: str | None = field(
        default=None,
        metadata=option(
            MODEL, PATH, "--draft-model", "for speculative decoding, with one request at a time"
        ),
    )
    num_draft_tokens: int = field(
        default=3,
        metadata=option(
            MODEL, COUNT, "--num-draft-tokens", "tokens that the draft model proposes at a time"
        ),
    )
    host: str = field(
        default="127.0.0.1",
        metadata=option(
            SERVER, TEXT, "--host", "address to listen on; beyond this machine needs an API key"
        ),
    )
    port: int = field(
        default=8080,
        metadata=option(SERVER, PORT, "--port", "port to listen on; 0 takes any that is free"),
    )
    uds: str | None = field(
        default=None,
        metadata=option(
            SERVER, SOCKET, "--uds", "listen on this unix socket, which only you can open"
        ),
    )
    api_key: str | None = field(
        default=None,
        repr=False,
        metadata=option(
            SERVER, KEY, "--api-key", "key to ask for; MLX_TOOLS_API_KEY keeps it from ps"
        ),
    )
    api_key_file: tuple[str, ...] = field(
        default=(),
        repr=False,
        metadata=option(
            SERVER, KEYS, "--api-key-file", "file of keys, one a line; any of them is let in"
        ),
    )
    allowed_origins: tuple[str, ...] = field(
        default=(),
        metadata=option(
            SERVER, ORIGINS, "--allowed-origins", "web origins let in, or * (default: none)"
        ),
    )
    no_ui: bool = field(
        default=False,
        metadata=option(SERVER, SWITCH, "--no-ui", "no status page at / and /ui"),
    )
    record: str | None = field(
        default=None,
        metadata=option(
            SERVER, PATH, "--record", "append each request there, its content made unreadable"
        ),
    )
    record_content: bool = field(
        default=False,
        metadata=option(SERVER, SWITCH, "--record-content", "record the content of requests too"),
    )
    log_level: str = field(
        default="INFO",
        metadata=option(SERVER, LEVEL, "--log-level", "DEBUG, INFO, WARNING, ERROR or CRITICAL"),
    )
    log_format: str = field(
        default="text",
        metadata=option(SERVER, LOG_FORMAT, "--log-format", "text, or json: an object a line"),
    )
    sampling: str = field(
        default="client",
        metadata=option(
            SAMPLING, SAMPLER, "--sampling", "whose settings count: client, model or fixed"
        ),
    )
    temp: float = field(
        default=0.0, metadata=option(SAMPLING, NUMBER, "--temp", "sampling temperature")
    )
    top_p: float = field(
        default=1.0, metadata=option(SAMPLING, SHARE, "--top-p", "nucleus sampling; 1 is off")
    )
    top_k: int = field(
        default=0,
        metadata=option(
            SAMPLING, FROM_ZERO, "--top-k", "draw from this many likeliest tokens; 0 is off"
        ),
    )
    min_p: float = field(
        default=0.0,
        metadata=option(
            SAMPLING, SHARE, "--min-p", "least share of the likeliest token's probability; 0 is off"
        ),
    )
    max_tokens: int | None = field(
        default=None,
        metadata=option(
            SAMPLING, COUNT, "--max-tokens", "longest answer (default: what is left of the context)"
        ),
    )
    constrain: str = field(
        default="calls",
        metadata=option(
            SAMPLING, CONSTRAIN, "--constrain", "calls to their schemas: calls, strict or off"
        ),
    )
    reasoning: str = field(
        default="auto",
        metadata=option(
            SAMPLING, REASONING, "--reasoning", "off: think only for requests that ask for it"
        ),
    )
    thinking_budget: int | None = field(
        default=None,
        metadata=option(
            SAMPLING, COUNT, "--thinking-budget", "most tokens of thought (default: no limit)"
        ),
    )
    decode_concurrency: int = field(
        default=32,
        metadata=option(MEMORY, COUNT, "--decode-concurrency", "requests decoded together"),
    )
    prompt_concurrency: int = field(
        default=8,
        metadata=option(MEMORY, COUNT, "--prompt-concurrency", "prompts processed together"),
    )
    prefill_step_size: int = field(
        default=2048,
        metadata=option(MEMORY, COUNT, "--prefill-step-size", "prompt tokens processed at a time"),
    )
    prompt_cache_size: int = field(
        default=10,
        metadata=option(
            MEMORY,
            COUNT,
            "--prompt-cache-size",
            "entries of mlx-lm's prompt cache, where that is in use",
        ),
    )
    prompt_cache_bytes: int | None = field(
        default=None,
        metadata=option(
            MEMORY, SIZE, "--prompt-cache-bytes", "the same as --kv-ram-bytes, as mlx-lm calls it"
        ),
    )
    history: str = field(
        default="exact",
        metadata=option(
            MEMORY, HISTORY, "--history", "how earlier answers are replayed: exact, or template"
        ),
    )
    history_thinking: str = field(
        default="template",
        metadata=option(
            MEMORY, HISTORY_THINKING, "--history-thinking", "earlier thoughts: template or preserve"
        ),
    )
    kv_dir: str | None = field(
        default=None,
        metadata=option(
            MEMORY, PATH, "--kv-dir", "where answers are kept (default: your cache folder)"
        ),
    )
    kv_ram_bytes: int | None = field(
        default=None,
        metadata=option(
            MEMORY,
            SIZE,
            "--kv-ram-bytes",
            "KV cache in memory (default: a quarter of what is free)",
        ),
    )
    kv_disk_bytes: int | None = field(
        default=None,
        metadata=option(MEMORY, SIZE, "--kv-disk-bytes", "KV cache on disk (default: up to 50GB)"),
    )
    no_kv_disk: bool = field(
        default=False,
        metadata=option(MEMORY, SWITCH, "--no-kv-disk", "keep nothing when the server ends"),
    )
    kv_bits: int | None = field(
        default=None,
        metadata=option(
            MEMORY, BITS, "--kv-bits", "2 to 8: quantise the KV cache; serves one request at a time"
        ),
    )
    kv_group_size: int = field(
        default=64,
        metadata=option(
            MEMORY, GROUP_SIZE, "--kv-group-size", "32, 64 or 128, of a quantised KV cache"
        ),
    )
    quantized_kv_start: int = field(
        default=5000,
        metadata=option(
            MEMORY, FROM_ZERO, "--quantized-kv-start", "position where KV quantisation starts"
        ),
    )
    memory_limit: int | None = field(
        default=None,
        metadata=option(
            MEMORY,
            SIZE,
            "--memory-limit",
            "memory for weights and KV cache (default: what the GPU, or most of the machine, has)",
        ),
    )
    idle_unload_seconds: int = field(
        default=0,
        metadata=option(
            MEMORY,
            FROM_ZERO,
            "--idle-unload-seconds",
            "give the model's memory back after this long without a request; 0 is never",
        ),
    )
    pipeline: bool = field(
        default=False,
        metadata=option(
            MEMORY, SWITCH, "--pipeline", "on several machines: split by layers, not by tensors"
        ),
    )
    max_requests: int = field(
        default=96,
        metadata=option(
            LIMITS, COUNT, "--max-requests", "requests at work or waiting; more are refused (503)"
        ),
    )
    max_queued_tokens: int = field(
        default=2_000_000,
        metadata=option(
            LIMITS,
            COUNT,
            "--max-queued-tokens",
            "tokens of their prompts together; more are refused (503)",
        ),
    )
    queue_seconds: float = field(
        default=300.0,
        metadata=option(LIMITS, NUMBER, "--queue-seconds", "longest wait for a turn; 0 is no end"),
    )
    request_seconds: float = field(
        default=0.0,
        metadata=option(
            LIMITS, NUMBER, "--request-seconds", "longest time for an answer; 0 is no end"
        ),
    )
    runaway_tokens: int = field(
        default=4096,
        metadata=option(
            LIMITS,
            FROM_ZERO,
            "--runaway-tokens",
            "end an answer that only repeats itself for this many tokens; 0 is off",
        ),
    )
    max_body: int = field(
        default=64_000_000,
        metadata=option(LIMITS, SIZE, "--max-body", "largest body of a request"),
    )
    max_connections: int = field(
        default=512,
        metadata=option(
            LIMITS, COUNT, "--max-connections", "open connections; silent ones make way for new"
        ),
    )
    drain_seconds: float = field(
        default=10.0,
        metadata=option(
            LIMITS, NUMBER, "--drain-seconds", "how long answers may go on when the server stops"
        ),
    )
    sources: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def from_sources(
        cls, flags: Mapping[str, Any], env: Mapping[str, str], file: Mapping[str, Any]
    ) -> ServerConfig:
        """Read `flags` (by option string), `env` (by variable) and `file` (by field name)."""
        found = find(OPTIONS, flags, env, file)
        sources = {name: origin for name, (origin, _) in found.items()}
        config = cls(**{name: value for name, (_, value) in found.items()}, sources=sources)
        _check_bind(config)
        return config

    @property
    def keys(self) -> tuple[str, ...]:
        """The API keys that are let in; none means that nobody is asked for one."""
        return (*self.api_key_file, *((self.api_key,) if self.api_key else ()))

    def values(self) -> dict[str, Any]:
        """Each setting by its name, as upstream's Namespace has them."""
        return {name: getattr(self, name) for name in OPTIONS}


OPTIONS: Mapping[str, Option] = {
    item.name: item.metadata["option"] for item in fields(ServerConfig) if item.metadata
}


FLAGS = tuple(flag for each in OPTIONS.values() for flag in each.flags)


def is_secret(each: Option) -> bool:
    """Whether the value must not be shown."""
    return each.kind in (KEY, KEYS)


# --- Checks -------------------------------------------------------------------------------------


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    from ipaddress import ip_address

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _check_bind(config: ServerConfig) -> None:
    if not (config.keys or config.uds or is_loopback(config.host)):
        raise StartupError(
            f"{config.sources['host']} is {config.host!r}, which other machines can reach, "
            "and there is no API key",
            f"Set {env_name('api_key')}, or leave the host at 127.0.0.1.",
        )
