"""What all dialects share on the wire: reading a JSON body field by field, and writing SSE.

Rules of this file:
- `null` for an optional field means that it is absent; unknown fields are ignored.
- A field of the wrong type or out of range is a BadRequest that names it.
- Numbers are finite and whole where they must be; `true` is no number.
"""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from .errors import BadRequest, TooLarge
from .jsontext import count_values, loads, nests_deeper, whole_characters
from .messages import Options, Sampling

# No value of a request has a reason to be larger; it keeps arithmetic on them safe.
MAX_INTEGER = 1 << 31
# The most tokens that may be asked for; clients that want all there is send such numbers.
MAX_TOKENS = 1 << 62
# Deeper than schemas and arguments are; it keeps every recursion far from Python's limit.
MAX_NESTING = 200
# More than conversations have. The worst body of so many keeps other threads waiting for 0.3 s.
MAX_VALUES = 500_000
# The most members of a list that is read one by one: messages, parts, tools, calls.
MAX_ITEMS = 50_000
# The most characters of a name or an id: answers repeat some of them, in each chunk.
MAX_NAME = 1024
# The most characters of what is sent for the chat template, written as JSON.
MAX_TEMPLATE_KWARGS = 65_536

_MISSING: Any = object()

_TOKEN_ID = re.compile("0|[1-9][0-9]{0,9}")
# What `str.splitlines` splits at and JSON does not escape, and what has no UTF-8 form.
_FRAGILE = re.compile("[\\x85\\u2028\\u2029\\ud800-\\udfff]")


class Fields:
    """A JSON object of a request; `path` is where it stands, for messages."""

    def __init__(self, data: Any, path: str = "") -> None:
        if not isinstance(data, Mapping):
            raise BadRequest(f"{path or 'The body'} must be a JSON object.", param=path or None)
        self._data = data
        self._path = path

    @property
    def all(self) -> Mapping[str, Any]:
        """The whole object as it is."""
        return self._data

    def at(self, name: str) -> str:
        """Return the full name of a field."""
        return f"{self._path}.{name}" if self._path else name

    def raw(self, name: str) -> Any:
        """Return the value as it is; None if absent."""
        return self._data.get(name)

    def wrong(self, name: str, wanted: str) -> BadRequest:
        """Return the error for a field that is not what it must be."""
        shown = _shown(self._data.get(name))
        return BadRequest(f"{self.at(name)} must be {wanted}, not {shown}.", param=self.at(name))

    def text(self, name: str, default: Any = _MISSING) -> Any:
        """Return a string; without a default it is required."""
        value = self._data.get(name)
        if value is None:
            return self._absent(name, default, "a string")
        if not isinstance(value, str):
            raise self.wrong(name, "a string")
        return value

    def name(self, name: str, default: Any = _MISSING, longest: int = MAX_NAME) -> Any:
        """Return a string that is no longer than names and ids are."""
        value = self.text(name, default)
        if value is not None and len(value) > longest:
            raise self.wrong(name, f"a string of {longest} characters at most")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """Return a boolean."""
        value = self._data.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """Return a finite number within the bounds."""
        value = self._data.get(name)
        if value is None:
            return default
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        if not numeric or not low <= value <= high:
            raise self.wrong(name, f"a number from {low:g} to {high:g}")
        return float(value)

    def integer(self, name: str, default: Any, low: int, high: int = MAX_INTEGER) -> Any:
        """Return a whole number within the bounds."""
        value = self._data.get(name)
        if value is None:
            return default
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.wrong(name, f"a whole number from {low} to {high}")
        return value

    def items(self, name: str, default: Any = _MISSING) -> Sequence[Any]:
        """Return a list."""
        value = self._data.get(name)
        if value is None:
            value = self._absent(name, default, "a list")
        if not isinstance(value, list | tuple):
            raise self.wrong(name, "a list")
        return value

    def object(self, name: str, default: Any = _MISSING) -> Fields:
        """Return an object."""
        value = self._data.get(name)
        if value is None:
            value = self._absent(name, default, "an object")
        return Fields(value, self.at(name))

    def mapping(self, name: str) -> Mapping[str, Any]:
        """Return an object as it is; empty if absent."""
        value = self._data.get(name)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise self.wrong(name, "an object")
        return value

    def objects(self, name: str, default: Any = _MISSING) -> list[Fields]:
        """Return a list of objects."""
        path = self.at(name)
        items = self.items(name, default)
        if len(items) > MAX_ITEMS:
            raise BadRequest(f"{path} has {len(items)} members; {MAX_ITEMS} may be.", param=path)
        return [Fields(item, f"{path}[{i}]") for i, item in enumerate(items)]

    def _absent(self, name: str, default: Any, wanted: str) -> Any:
        if default is _MISSING:
            raise BadRequest(
                f"{self.at(name)} is missing; it must be {wanted}.", param=self.at(name)
            )
        return default


def _shown(value: Any) -> str:
    """Return the beginning of a value as an error shows it, however large it is."""
    if isinstance(value, Mapping) and len(value) > 100:  # all its keys would be sorted
        return f"an object of {len(value)} fields"
    shown = reprlib.repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def parse_json(raw: bytes) -> Fields:
    """Return the body of a request.

    Of a key that comes twice the last value counts, and no code sees another.

    Raises:
        BadRequest: it is no JSON object.
        TooLarge: it would take long to find that out.
    """
    roughly = sum(map(raw.count, (b",", b"[", b"{")))
    if roughly > MAX_VALUES and count_values(raw, MAX_VALUES) > MAX_VALUES:
        raise TooLarge(
            f"The body holds more than {MAX_VALUES} values (members of its lists and objects). "
            "Send a shorter conversation, and long data as text."
        )
    try:
        data = loads(whole_characters(raw.decode("utf-8")), strict=True)
    except UnicodeDecodeError as error:
        raise BadRequest(f"The body is not UTF-8: {error.reason} at byte {error.start}.") from error
    except ValueError as error:
        raise BadRequest(f"The body is not JSON: {error}.") from error
    if nests_deeper(data, MAX_NESTING):
        raise BadRequest(f"The body nests more than {MAX_NESTING} deep.")
    return Fields(data)


def read_options(
    body: Fields, defaults: Sampling, *, max_tokens: int | None, top_logprobs: int | None
) -> Options:
    """Return what the bodies of OpenAI's routes have in common."""
    return Options(
        model=body.name("model", ""),
        sampling=read_sampling(body, defaults),
        max_tokens=max_tokens,
        stop=read_stop(body),
        top_logprobs=top_logprobs,
        stream=body.flag("stream", False),
        include_usage=body.object("stream_options", {}).flag("include_usage", False),
    )


def read_sampling(body: Fields, defaults: Sampling) -> Sampling:
    """Return the sampling settings of an OpenAI-style body, with upstream's own fields."""
    return Sampling(
        temperature=body.number("temperature", defaults.temperature, 0, 100),
        top_p=body.number("top_p", defaults.top_p, 0, 1),
        top_k=body.integer("top_k", defaults.top_k, 0),
        min_p=body.number("min_p", defaults.min_p, 0, 1),
        xtc_probability=body.number("xtc_probability", defaults.xtc_probability, 0, 1),
        xtc_threshold=body.number("xtc_threshold", defaults.xtc_threshold, 0, 0.5),
        repetition_penalty=body.number("repetition_penalty", 0.0, 0, 100),
        repetition_context_size=body.integer("repetition_context_size", 20, 0),
        presence_penalty=body.number("presence_penalty", 0.0, -100, 100),
        presence_context_size=body.integer("presence_context_size", 20, 0),
        frequency_penalty=body.number("frequency_penalty", 0.0, -100, 100),
        frequency_context_size=body.integer("frequency_context_size", 20, 0),
        logit_bias=_logit_bias(body),
        seed=_seed(body),
    )


def _logit_bias(body: Fields) -> dict[int, float]:
    bias = Fields(body.mapping("logit_bias"), body.at("logit_bias"))
    result = {}
    for key in body.mapping("logit_bias"):
        # Python would take " 5", "0_5" and digits of other scripts too, all for the same token.
        if not _TOKEN_ID.fullmatch(key) or int(key) >= MAX_INTEGER:
            raise BadRequest(
                f"logit_bias has the key {key[:40]!r}; its keys must be token ids.",
                param="logit_bias",
            )
        result[int(key)] = bias.number(key, 0.0, -10_000, 10_000)
    return result


def _seed(body: Fields) -> int | None:
    seed = body.integer("seed", None, -(1 << 63), (1 << 64) - 1)
    return None if seed is None else int(seed) % (1 << 64)


def read_max_tokens(body: Fields, *names: str) -> int | None:
    """Return the first limit that is set; -1 is none."""
    for name in names:
        limit = body.integer(name, None, -1, MAX_TOKENS)
        if limit == 0:
            raise body.wrong(name, "1 or more")
        if limit is not None:
            return None if limit == -1 else int(limit)
    return None


def read_template_kwargs(body: Fields) -> dict[str, Any]:
    """Return the variables for the chat template; which of them it takes is not known here."""
    kwargs = body.mapping("chat_template_kwargs")
    if any(len(name) > 80 for name in kwargs) or len(kwargs) > 100:
        raise BadRequest(
            "chat_template_kwargs may have 100 names of 80 characters at most.",
            param=body.at("chat_template_kwargs"),
        )
    if len(to_json(kwargs)) > MAX_TEMPLATE_KWARGS:
        raise body.wrong(
            "chat_template_kwargs", f"an object of {MAX_TEMPLATE_KWARGS} characters as JSON at most"
        )
    return dict(kwargs)


def read_stop(body: Fields, name: str = "stop") -> tuple[str, ...]:
    """Return the stop strings; empty ones mean none."""
    value = body.raw(name)
    words = [value] if isinstance(value, str) else value
    if words is None:
        return ()
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise body.wrong(name, "a string or a list of strings")
    if len(words) > 16 or any(len(word) > 256 for word in words):
        raise BadRequest(
            f"{name} may have 16 strings of 256 characters at most.", param=body.at(name)
        )
    return tuple(word for word in words if word)


def sse(data: Any) -> bytes:
    """Return one server-sent event whose data is JSON."""
    return f"data: {to_json(data)}\n\n".encode()


def to_json(data: Any) -> str:
    """Return compact JSON on one line, for clients of any taste.

    Many split a stream at every character that Unicode calls a line break; a lone surrogate has
    no UTF-8 form. Both have escapes.
    """
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return _FRAGILE.sub(_escaped, text) if _FRAGILE.search(text) else text


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
