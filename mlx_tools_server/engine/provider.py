"""The one model of this server, and all that serving it needs beside its weights.

Rules of this file:
- The model is chosen at start. Nothing a client sends loads another, an adapter or a template.
- What depends on the model is worked out once, when it is loaded.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..config import ServerConfig
from ..errors import BadRequest
from ..families import Family, detect
from ..messages import Message, ThinkingWish, ToolSpec
from ..sentinels import Piece
from ..templates import (
    ChatTemplate,
    check_variables,
    control_tokens,
    opens_thought,
    plain_dicts,
    replacement,
)
from ..thinking import Switches, settled
from .foreign import MlxLmFormat
from .seams import ModelProvider, TokenizerWrapper, load
from .tokens import DetokenizerFactory, PromptEncoder

log = logging.getLogger(__name__)

# mlx-lm gives this switch the name that a model's own code has for it.
_FOREIGN = Switches(flags={"enable_thinking": (True, False)})


class PinnedProvider(ModelProvider):
    """mlx-lm's provider for the model of the command line, whatever a request asks for."""

    def __init__(self, config: ServerConfig) -> None:
        super().__init__(argparse.Namespace(**config.values()))

    def load(self, *_: Any) -> Any:
        """Return the model and its tokenizer, loading them the first time."""
        return super().load("default_model", None, "default_model")

    def unload(self) -> None:
        """Drop the weights; what was worked out of them stays true."""
        self.model_key: Any = None
        self.model = self.draft_model = None

    def _load(self, model: str, adapter: str | None = None, draft: str | None = None) -> None:
        if draft is None or self.is_distributed:
            super()._load(model, adapter, draft)  # which refuses drafts on several machines
            return
        # mlx-lm would load the draft without --trust-remote-code.
        super()._load(model, adapter, None)
        self.draft_model, tokenizer = load(
            draft,
            tokenizer_config={"trust_remote_code": self.cli_args.trust_remote_code},
            trust_remote_code=self.cli_args.trust_remote_code,
        )
        if len(tokenizer) != len(self.tokenizer):
            log.warning(
                "The draft model has %d tokens, the model %d: drafts will rarely be of use.",
                len(tokenizer),
                len(self.tokenizer),
            )
        self.is_batchable = False
        self.model_key = (model, adapter, draft)


@dataclass(frozen=True, slots=True)
class ForeignTemplate:
    """A model that renders its prompts by code of its own, or has no template at all.

    `thinks` is whether it does so where nobody wishes anything.
    """

    tokenizer: TokenizerWrapper
    origin: str
    thinks: bool = True

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        kwargs: Mapping[str, Any],
        *,
        thinking: ThinkingWish,
    ) -> list[Piece]:
        """Return the prompt of this conversation; `kwargs` can't say anything to it."""
        check_variables(kwargs, ())
        if not self.tokenizer.has_chat_template:
            raise BadRequest(
                "This model has no chat template, so it can't hold a conversation. Use "
                "/v1/completions, or start the server with --chat-template FILE.",
                param="messages",
            )
        plain = plain_dicts(messages, tools)
        variables = _FOREIGN.variables(settled(thinking, self.thinks))
        text = self.tokenizer.apply_chat_template(
            plain[0], tools=plain[1], add_generation_prompt=True, tokenize=False, **variables
        )
        return [Piece(text, literal=False)]

    def opening(self, _pieces: Sequence[Piece]) -> None:
        """Return None: what foreign code does to an answer of the history is not known."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """How to talk to the loaded model; made in the generation thread, read by all.

    `thought_closer` are the tokens that end a thought; none if it has no thoughts.
    """

    name: str
    family: Family
    why: str
    template: ChatTemplate | ForeignTemplate
    thought_tags: tuple[str, str] | None
    thought_closer: tuple[int, ...]
    encoder: PromptEncoder
    detokenizers: DetokenizerFactory
    eos: frozenset[int]
    fingerprint: bytes
    vocabulary: int
    context_length: int | None

    def thought_open(self, pieces: Sequence[Piece]) -> bool:
        """Return whether a rendered prompt ends inside a thought."""
        if self.thought_tags is None:
            return False
        written = "".join(piece.text for piece in pieces if not piece.literal)
        return opens_thought(written, *self.thought_tags)


def describe(provider: PinnedProvider, config: ServerConfig, name: str) -> LoadedModel:
    """Work out how to talk to the model that the provider has loaded."""
    tokenizer: TokenizerWrapper = provider.tokenizer
    source = template_source(tokenizer)
    form = MlxLmFormat(tokenizer)
    family, why = detect(source, form, thinks=tokenizer.has_thinking)
    encoder = PromptEncoder(tokenizer)
    tags = None
    if family.thinking:
        tags = (family.thinking.open, family.thinking.close)
    elif tokenizer.has_thinking:
        tags = (tokenizer.think_start, tokenizer.think_end)
    return LoadedModel(
        name=name,
        family=family,
        why=why,
        template=_template(source, tokenizer, family, encoder, tags, config),
        thought_tags=tags,
        thought_closer=tuple(encoder.encode([Piece(tags[1], literal=False)])) if tags else (),
        encoder=encoder,
        detokenizers=DetokenizerFactory(tokenizer),
        eos=frozenset(tokenizer.eos_token_ids),
        fingerprint=encoder.fingerprint,
        vocabulary=len(tokenizer),
        context_length=config.context_length or _context_length(provider.model),
    )


def template_source(tokenizer: TokenizerWrapper) -> str:
    """Return the text of the tokenizer's chat template, the one for tools if there are several."""
    source = tokenizer.chat_template
    if isinstance(source, dict):
        source = source.get("tool_use") or source.get("default")
    return source if isinstance(source, str) else ""


def _template(
    source: str,
    tokenizer: TokenizerWrapper,
    family: Family,
    encoder: PromptEncoder,
    tags: tuple[str, str] | None,
    config: ServerConfig,
) -> ChatTemplate | ForeignTemplate:
    if not source:
        return ForeignTemplate(tokenizer, "the model's own code", config.reasoning != "off")
    origin = "--chat-template" if config.chat_template else "the model's"
    ours = replacement(source, family.published, family.template)
    if ours is not None and not config.chat_template:
        source = ours
        origin = f"chat_templates/{family.template}.jinja, in place of the model's"
    variables: dict[str, Any] = dict(tokenizer.special_tokens_map)
    if tokenizer.has_thinking:
        variables["enable_thinking"] = True
    variables |= config.chat_template_args
    markers = [tokenizer.tool_call_start or "", tokenizer.tool_call_end or "", *(tags or ())]
    return ChatTemplate(
        source,
        origin,
        variables=variables,
        control_tokens=control_tokens(source, encoder.added, [*markers, *family.control_texts]),
        keep_thoughts=config.history_thinking == "preserve",
        thinks=config.reasoning != "off",
        call_id=family.call_id,
    )


def _context_length(model: Any) -> int | None:
    args = getattr(model, "args", None)
    text = getattr(args, "text_config", None) or {}
    length = getattr(args, "max_position_embeddings", None)
    if length is None and isinstance(text, Mapping):
        length = text.get("max_position_embeddings")
    return length if isinstance(length, int) and length > 0 else None
