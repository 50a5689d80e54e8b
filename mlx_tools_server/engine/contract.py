"""What this server relies on in mlx-lm beyond its public interface, and a check of all of it.

Rules of this file:
- Whatever `seams`, `layers` and `sampling` touch stands here: parameters, fields, and what mlx-lm's
  own code calls by name. The tests compare this list with those files.
- The check takes a few milliseconds, so it runs at every start.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from types import CodeType
from typing import Any

from mlx_lm import sample_utils, server
from mlx_lm.generate import BatchGenerator, GenerationBatch, PromptProcessingBatch
from mlx_lm.models import cache as mlx_cache
from mlx_lm.tokenizer_utils import TokenizerWrapper

from ..errors import StartupError

# The parameters of each function, or the fields of a dataclass.
CONTRACT: dict[str, tuple[Any, str]] = {
    "ResponseGenerator.__init__": (server.ResponseGenerator, "self model_provider prompt_cache"),
    "ResponseGenerator._generate": (server.ResponseGenerator, "self"),
    "ResponseGenerator._run_generate": (server.ResponseGenerator, "self"),
    "ResponseGenerator._tokenize": (server.ResponseGenerator, "self tokenizer request args"),
    "ResponseGenerator._log_cache_stats": (server.ResponseGenerator, "self"),
    "ResponseGenerator._make_state_machine": (
        server.ResponseGenerator,
        "self model_key tokenizer stop_words",
    ),
    "ResponseGenerator.generate": (
        server.ResponseGenerator,
        "self request generation_args progress_callback",
    ),
    "ResponseGenerator.stop_and_join": (server.ResponseGenerator, "self"),
    "ResponseGenerator.join": (server.ResponseGenerator, "self"),
    "ResponseGenerator.generation_available": (server.ResponseGenerator, "self"),
    "ResponseGenerator._next_request": (server.ResponseGenerator, "self timeout"),
    "ResponseGenerator._is_batchable": (server.ResponseGenerator, "self args"),
    "GenerationContext.stop": (server.GenerationContext, "self"),
    "ModelProvider.__init__": (server.ModelProvider, "self cli_args"),
    "ModelProvider.reset": (server.ModelProvider, "self"),
    "ModelProvider.load": (
        server.ModelProvider,
        "self model_path adapter_path draft_model_path",
    ),
    "ModelProvider._load": (
        server.ModelProvider,
        "self model_path adapter_path draft_model_path",
    ),
    "ModelProvider.load_default": (server.ModelProvider, "self"),
    "APIHandler.__init__": (
        server.APIHandler,
        "self response_generator args system_fingerprint kwargs",
    ),
    "_make_sampler": (server, "args tokenizer"),
    "_make_logits_processors": (server, "args"),
    "LRUPromptCache.__init__": (mlx_cache.LRUPromptCache, "self max_size max_bytes"),
    "LRUPromptCache.fetch_nearest_cache": (mlx_cache.LRUPromptCache, "self model tokens"),
    "LRUPromptCache.insert_cache": (
        mlx_cache.LRUPromptCache,
        "self model tokens prompt_cache cache_type",
    ),
    "can_trim_prompt_cache": (mlx_cache, "cache"),
    "make_prompt_cache": (mlx_cache, "model max_kv_size"),
    "BatchGenerator.next": (BatchGenerator, "self"),
    "BatchGenerator.extract_cache": (BatchGenerator, "self uids"),
    "PromptProcessingBatch.extract_cache": (PromptProcessingBatch, "self idx"),
    "PromptProcessingBatch.split": (PromptProcessingBatch, "self indices"),
    "PromptProcessingBatch.filter": (PromptProcessingBatch, "self keep"),
    "GenerationBatch.extract_cache": (GenerationBatch, "self idx"),
    "GenerationBatch._step": (GenerationBatch, "self"),
    "BatchKVCache.__init__": (mlx_cache.BatchKVCache, "self left_padding"),
    "KVCache.merge": (mlx_cache.KVCache, "caches"),
    "BatchKVCache.extract": (mlx_cache.BatchKVCache, "self idx"),
    "QuantizedKVCache.__init__": (mlx_cache.QuantizedKVCache, "self group_size bits"),
    "KVCache.trim": (mlx_cache.KVCache, "self n"),
    "CacheList.__init__": (mlx_cache.CacheList, "self caches"),
    "PromptTrie.search": (mlx_cache.PromptTrie, "self model tokens"),
    "PromptTrieResult.__init__": (
        mlx_cache.PromptTrieResult,
        "self model exact shorter longer common_prefix",
    ),
    "TextStateMachine.make_state": (server.TextStateMachine, "self initial"),
    "TextStateMachine.split": (server.TextStateMachine, "state text"),
    "TextStateMachine.flush": (server.TextStateMachine, "state"),
    "make_text_state_machine": (server, "tokenizer stop_words"),
    "apply_top_p": (sample_utils, "logprobs top_p"),
    "apply_min_p": (sample_utils, "logprobs min_p min_tokens_to_keep"),
    "apply_top_k": (sample_utils, "logprobs top_k"),
    "apply_xtc": (sample_utils, "logits xtc_probability xtc_threshold xtc_special_tokens"),
    "categorical_sampling": (sample_utils, "logits temp"),
    "greedy_sampler": (sample_utils, "logprobs"),
}
FIELDS: dict[type, str] = {
    server.CompletionRequest: "request_type prompt messages tools role_mapping",
    server.GenerationArguments: "model sampling logits stop_words max_tokens num_draft_tokens"
    " logprobs top_logprobs seed chat_template_kwargs",
    server.LogitsProcessorArguments: "logit_bias repetition_penalty repetition_context_size"
    " presence_penalty presence_context_size frequency_penalty frequency_context_size",
    server.GenerationContext: "has_tool_calling has_thinking tool_parser text_sm initial_state"
    " prompt prompt_cache_count _should_stop",
    server.ModelDescription: "model draft adapter",
    server.Response: "text token logprob finish_reason top_tokens",
    PromptProcessingBatch.Response: "uid progress end_of_segment end_of_prompt",
    mlx_cache.PromptTrieResult: "model exact shorter longer common_prefix",
}
# What mlx-lm's own code calls or sets, by the function that does; our overrides answer to it.
USES: dict[str, tuple[Any, str]] = {
    "ResponseGenerator.__init__": (
        server.ResponseGenerator,
        "model_provider prompt_cache requests _time_budget"
        " _is_distributed _rank _stop _generation_failed _generation_thread _run_generate",
    ),
    "ResponseGenerator._generate": (
        server.ResponseGenerator,
        "load_default _next_request _is_batchable _tokenize"
        " _make_state_machine stop_words _log_cache_stats fetch_nearest_cache insert_cache"
        " GenerationContext _make_sampler _make_logits_processors insert_segments max_tokens"
        " _should_stop _time_budget _stop reset prompt_cache put progress"
        " BatchGenerator extract_cache end_of_segment end_of_prompt assistant logprobs item",
    ),
    "ResponseGenerator._serve_single": (
        server.ResponseGenerator,
        "_tokenize _make_state_machine stop_words matcher"
        " advance fetch_nearest_cache insert_cache _make_sampler _make_logits_processors"
        " _should_stop put",
    ),
    "ResponseGenerator._next_request": (
        server.ResponseGenerator,
        "requests get get_nowait QueueEmpty timeout",
    ),
    "ResponseGenerator._is_batchable": (
        server.ResponseGenerator,
        "is_batchable seed kv_bits",
    ),
    "ResponseGenerator.generation_available": (
        server.ResponseGenerator,
        "_generation_failed is_alive",
    ),
    "GenerationBatch.__init__": (
        GenerationBatch,
        "matcher",
    ),
    "GenerationBatch._step": (
        GenerationBatch,
        "model _next_tokens _next_logprobs",
    ),
    "GenerationBatch.next": (
        GenerationBatch,
        "_matchers advance extract_cache",
    ),
    "BatchGenerator.extract_cache": (
        BatchGenerator,
        "_prompt_batch _generation_batch extract_cache tokens",
    ),
    "PromptProcessingBatch.split": (
        PromptProcessingBatch,
        "uids filter",
    ),
    "PromptProcessingBatch.filter": (
        PromptProcessingBatch,
        "uids prompt_cache clear",
    ),
    "BatchKVCache.update_and_fetch": (
        mlx_cache.BatchKVCache,
        "keys values offset _idx",
    ),
    "BatchKVCache.extract": (
        mlx_cache.BatchKVCache,
        "keys values left_padding _idx offset",
    ),
    "ModelProvider._load": (
        server.ModelProvider,
        "is_distributed model_key draft_model is_batchable tokenizer",
    ),
    "TokenizerWrapper.detokenizer": (
        TokenizerWrapper,
        "copy _detokenizer reset",
    ),
    "TokenizerWrapper.__len__": (
        TokenizerWrapper,
        "_tokenizer",
    ),
    "LRUPromptCache.__init__": (
        mlx_cache.LRUPromptCache,
        "_trie max_size max_bytes",
    ),
    "LRUPromptCache.fetch_nearest_cache": (
        mlx_cache.LRUPromptCache,
        "_trie search exact shorter longer common_prefix",
    ),
    "PromptTrie.search": (
        mlx_cache.PromptTrie,
        "_trie __value__",
    ),
}


def broken_seams(
    contract: Mapping[str, tuple[Any, str]] = CONTRACT,
    fields: Mapping[type, str] = FIELDS,
    uses: Mapping[str, tuple[Any, str]] = USES,
) -> list[str]:
    """Return what of the contract this mlx-lm does not keep, one line each."""
    broken = []
    for name, (owner, expected) in contract.items():
        function = getattr(owner, name.rpartition(".")[2], None)
        found = " ".join(inspect.signature(function).parameters) if function else "missing"
        if found != expected:
            broken.append(f"{name}({expected}) is now ({found})")
    for owner, expected in fields.items():
        found = " ".join(getattr(owner, "__dataclass_fields__", ()))
        if found != expected:
            broken.append(f"{owner.__name__} has the fields {found}, not {expected}")
    for name, (owner, expected) in uses.items():
        function = getattr(owner, name.rpartition(".")[2], None)
        known = set(_names(_behind(function).__code__)) if function else set()
        gone = [use for use in expected.split() if use not in known]
        broken += [f"{name} does not use {use} any more" for use in gone]
    return broken


def _behind(function: Any) -> Any:
    """Return the function of a property, or the one that ours stands in for."""
    behind: Any = function.fget if isinstance(function, property) else function
    return inspect.unwrap(behind)


def _names(code: CodeType) -> Iterator[str]:
    """All names, variables and texts in a function and the functions inside it."""
    yield from (*code.co_names, *code.co_varnames)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
        elif isinstance(constant, str | tuple):
            yield from (constant,) if isinstance(constant, str) else map(str, constant)


def check_contract() -> None:
    """Raise StartupError if the installed mlx-lm is not the one this code was written for."""
    if broken := broken_seams():
        raise StartupError(
            f"mlx-lm {version('mlx-lm')} differs from what this server needs: {broken[0]}",
            "Install a version that fits: pip install 'mlx-lm>=0.32.1,<0.33'",
        )
