"""Whose sampling settings count: the client's, the model's or the server's.

Rules of this file:
- `client`: what a client sends counts, and the server's flags fill in what it leaves out.
- `model`: a client that sends nothing, or only what every API has as its default, gets what the
  model's `generation_config.json` recommends; flags that were given count more than that file.
- `fixed`: the server's flags count, whatever is sent. Seed and logit bias stay the client's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .config import ServerConfig
from .messages import Sampling

# What agents send that have no opinion.
_NEUTRAL = Sampling(temperature=1.0)


@dataclass(frozen=True, slots=True)
class SamplingPolicy:
    """How the next token is drawn, by what was asked for; `ours` is the server's own way."""

    mode: str
    ours: Sampling

    @classmethod
    def of(cls, config: ServerConfig, recommended: Mapping[str, float]) -> SamplingPolicy:
        """Return the policy of a configuration, for a model that recommends these settings."""
        ours = Sampling(config.temp, config.top_p, config.top_k, config.min_p)
        if config.sampling == "model":
            given = {"temperature" if name == "temp" else name for name in config.sources}
            free = {name: value for name, value in recommended.items() if name not in given}
            ours = replace(ours, **free)  # type: ignore[arg-type]
        return cls(config.sampling, ours)

    @property
    def defaults(self) -> Sampling:
        """What a dialect takes for what a client leaves out."""
        return _NEUTRAL if self.mode == "model" else self.ours

    def settle(self, asked: Sampling) -> Sampling:
        """Return the settings to use."""
        kept = {"seed": asked.seed, "logit_bias": asked.logit_bias}
        if self.mode == "fixed" or (
            self.mode == "model" and asked == replace(_NEUTRAL, **kept)  # type: ignore[arg-type]
        ):
            return replace(self.ours, **kept)  # type: ignore[arg-type]
        return asked
