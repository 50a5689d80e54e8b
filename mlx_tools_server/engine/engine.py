"""The engine: mlx-lm's generation loop, fed with prepared prompts, told as events.

Rules of this file:
- Rendering, encoding and all refusals happen in the thread that serves the client, before the
  loop sees the request; the loop gets token ids.
- The loop outlives every failure: what failed ends, what shared its batch goes on.
- The engine is a context manager held by whoever runs the server. Never keep one in a global:
  the model must go in its own thread, before the interpreter does.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import mlx.core as mx

from ..budgets import DISK_FLOOR
from ..config import ServerConfig
from ..counters import Counters
from ..errors import GenerationFailed, Overloaded
from ..events import EngineEvent, Progress, Started
from ..families import Parser
from ..messages import ChatRequest, Options, TextRequest
from ..places import KV_FILES, kv_folder
from .contract import check_contract
from .group import Group
from .guide import Guide
from .jobs import Idle, Job, JobQueue
from .kv import Begun, KVCacheStore, fingerprint
from .layers import PromptCache
from .memory import MemoryGuard, guard_for, kept_in_memory, kept_on_disk, machine_memory
from .plans import Plans
from .prompts import Prompt, Prompts
from .provider import LoadedModel, PinnedProvider, describe
from .reader import Reader
from .seams import GenerationLoop, arguments, loop_request
from .telling import TICK, Deadline, Telling

log = logging.getLogger(__name__)

# Seconds of decoding after which the loop looks for new requests.
TIME_BUDGET = 0.03
# Bias of a token that must not come.
NEVER = -1e9
# Failures in a row with no job to blame, after which loop or model are taken to be broken.
MAX_FAILURES = 5
# Seconds before the loop begins anew after such a failure; each time it is twice as long.
BACK_OFF = 0.5
# Seconds after a failure in which a machine may turn out to be lost.
LOSS = 3.0
# Seconds between two looks whether the server stops, while the model is not loaded.
REST = 0.5


class Engine(GenerationLoop):
    """Serves one model. Use as a context manager; `wait_until_loaded` before anything else.

    `restarts` counts how often the generation loop began anew after a failure.
    """

    def __init__(self, config: ServerConfig, model_name: str, group: Group | None = None) -> None:
        check_contract()
        self._group = group or Group()
        self._config = config
        self._model_name = model_name
        self._jobs = JobQueue(config.decode_concurrency, config.prompt_concurrency)
        self._loaded = threading.Event()
        self._model: LoadedModel | None = None
        self._load_error: Exception | None = None
        self._cache: KVCacheStore | None = None
        self._made: Prompts | None = None
        self._plans: Plans | None = None
        self._fingerprint = b""
        self._rests = False
        self._guided = Counters("tokens", "forced", "failed")
        self._failures = 0
        self._latest: Reader | None = None
        self.restarts = 0
        super().__init__(
            PinnedProvider(config), PromptCache(config.prompt_cache_size, config.prompt_cache_bytes)
        )
        self._group.when_lost(self._end)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_and_join()

    # Loading.

    def wait_until_loaded(self, timeout: float) -> bool:
        """Return whether the model is loaded; raises what loading raised."""
        if not self._loaded.wait(timeout):
            return False
        if self._load_error is not None:
            raise self._load_error
        return True

    @property
    def loaded_bytes(self) -> int:
        """How much memory the model has taken so far."""
        return int(mx.get_active_memory())

    @property
    def memory(self) -> dict[str, int]:
        """How many bytes of memory are in use, and how many there are for model and requests."""
        capacity = self._config.memory_limit or machine_memory()
        return {"bytes": self.loaded_bytes, "capacity": capacity}

    @property
    def in_flight(self) -> int:
        """How many requests the loop is at work on."""
        return self._jobs.in_flight

    @property
    def machines(self) -> int:
        """How many machines serve the model together."""
        return self._group.size

    @property
    def rests(self) -> bool:
        """Whether the model's memory is given back until the next request."""
        return self._rests

    @property
    def cache_stats(self) -> dict[str, Any]:
        """The figures of the KV cache; none where mlx-lm's own is in use."""
        cache = self._cache
        return {} if cache is None else cache.stats()

    @property
    def guided(self) -> Mapping[str, int]:
        """How many tokens followed a grammar, how many had no rival, and how many gave up."""
        return self._guided.snapshot()

    @property
    def model(self) -> LoadedModel:
        """The loaded model."""
        if self._model is None:
            raise Overloaded("The model is not loaded yet. Try again in a moment.")
        return self._model

    @property
    def _prompts(self) -> Prompts:
        if self._made is None:
            raise Overloaded("The model is not loaded yet. Try again in a moment.")
        return self._made

    # The generation thread.

    def main(self) -> None:
        """Load the model, then serve until the server stops."""
        try:
            if self._load():
                self._serve()
        finally:
            if self._cache is not None:
                self._cache.close()
                self._cache = None
            self.release()

    def _load(self) -> bool:
        try:
            self.model_provider.load_default()
            self._group.check_split(self.model_provider.model)
            self._model = describe(self.model_provider, self._config, self._model_name)
            if not self._config.draft_model:
                self._plans = Plans(self._model, self._config.constrain)
            if not (self.distributed or self._config.draft_model):
                self._cache = self._open_cache(self._model)
                self._jobs.guard = self._guard(self._cache)
            self._made = Prompts(
                self._model,
                self._config,
                plans=self._plans,
                guard=self._jobs.guard,
                marks_system=self._cache is not None and self._cache.exact,
            )
        except Exception as error:  # noqa: BLE001  loading runs code of the model's own
            # Its frames hold what was loaded, and that must go in this thread.
            self._load_error = error.with_traceback(None)
            self.give_up()
            return False
        finally:
            self._loaded.set()
        return True

    def _open_cache(self, model: LoadedModel) -> KVCacheStore:
        """Keep the KV cache in blocks."""
        config = self._config
        folder = kv_folder(config)
        self._fingerprint = fingerprint(self.model_provider.model, model.fingerprint)
        cache = KVCacheStore(
            self.model_provider.model,
            self._fingerprint,
            memory_bytes=kept_in_memory(config),
            disk_bytes=kept_on_disk(config, folder),
            floor_bytes=DISK_FLOOR,
            folder=folder / KV_FILES if folder else None,
            quantized=(config.kv_group_size, config.kv_bits) if config.kv_bits else (),
            decode=model.detokenizers.join,
        )
        self.use_cache(cache)
        return cache

    def _guard(self, cache: KVCacheStore) -> MemoryGuard | None:
        model, config = self.model_provider.model, self._config
        return guard_for(model, config.memory_limit, kept_in_memory(config), cache.resize)

    def _serve(self) -> None:
        self.set_time_budget(TIME_BUDGET)
        self.use_queue(self._jobs)
        if not self.distributed:  # machines in step rest together or not at all
            self._jobs.idle_seconds = self._config.idle_unload_seconds
        while not self.stopping:
            idle = False
            try:
                self._wake()
                self.serve_batches()
            except Idle:
                idle = True  # what holds the model is gone when this block is left
            except Exception as error:  # the loop must outlive every failure
                # What mlx says of a machine that is lost is known a moment later.
                if reason := self._group.lost(within=LOSS):
                    self._end(reason)
                    break
                log.exception("generation failed")
                if not self._recover(f"{type(error).__name__}: {error}"):
                    break
            if idle:
                self._rest()
        self.when_stopping()

    def when_stopping(self) -> None:
        """End all that is at work or waits."""
        for job in self._jobs.drain():
            job.fail(Overloaded("The server is stopping. Send the request again in a moment."))

    def _rest(self) -> None:
        """Give the model's memory back until somebody asks for something."""
        log.info("The model's memory is given back until the next request")
        self._rests = True
        self.model_provider.unload()
        if self._cache is not None:
            self._cache.lend(None)
        gc.collect()
        mx.clear_cache()
        while not self.stopping and not self._jobs.wait(REST):
            pass

    def _wake(self) -> None:
        """Load the model anew, if its memory was given back."""
        if not self._rests:
            return
        began = time.monotonic()
        self.model_provider.load_default()
        if self._cache is not None:
            model = self.model_provider.model
            if fingerprint(model, self.model.fingerprint) != self._fingerprint:
                self.give_up()
                raise RuntimeError("the model's files have changed: start the server anew")
            self._cache.lend(model)
        self._rests = False
        log.info("The model was loaded again in %.1f s", time.monotonic() - began)

    def reader(self, spec: Any) -> Reader:
        """Return the reader for a job; a job that is tried again keeps the one it has."""
        if self._latest is not None and self._latest.tokens:
            self._failures = 0  # the model has answered, so it is not broken
        source, plain = spec
        job = source if isinstance(source, Job) else None
        if job is not None and job.reader is not None:
            return job.reader
        model, plan = self.model, job.plan if job is not None else None
        if source is not None and job is None and self._plans is not None:
            plan = self._plans.again(source)
        if plain.raw:
            parser = Parser(stop=plain.stop)
        else:
            parser = model.family.parser(
                plain.tools,
                thought_open=plain.thought_open,
                first_call_only=plain.first_call_only,
                stop=plain.stop,
                constrained=plan is not None and plan.whole is not None,
            )
        reader = Reader(
            parser,
            model.detokenizers.new(continues=plain.raw),
            model.eos,
            plain.max_tokens,
            plain.runaway,
            wants_logprobs=plain.logprobs,
        )
        self._latest = reader
        budget = plain.thought_budget
        if budget is not None or (plan is not None and plan.guides):
            reader.guide = Guide(plan, parser, model.vocabulary, self._guided, budget)
        return reader

    def _end(self, reason: str) -> None:
        """Serve nobody any more: a machine of the group is lost."""
        self.give_up()
        for job in self._jobs.drain():
            job.put(GenerationFailed(f"{reason} The server ends; start it anew on all of them."))

    def _recover(self, reason: str) -> bool:
        """Bring the jobs of a failed step to their own ends; return whether to go on."""
        jobs, blamed = self._jobs.suspend()
        # On several machines a forward pass of one of them alone would wait for the others.
        self._failures = 0 if jobs and (self.distributed or self.computes()) else self._failures + 1
        error = GenerationFailed(
            f"The model failed on this request: {reason}. Other requests are not affected; "
            "if it was short of memory, send a shorter prompt or fewer requests at once."
        )
        if self.distributed or self._failures >= MAX_FAILURES:
            for job in jobs + self._jobs.drain():
                job.put(error)
            self.give_up()
            return False
        if self._failures:
            time.sleep(BACK_OFF * 2 ** (self._failures - 1))
        again = []
        for job in jobs:
            if job.reader is not None and job.reader.finished:
                job.put(None)
            elif len(jobs) == 1:
                job.put(error)
                self._jobs.acquit()
            elif job.retry(blamed=blamed in (None, job)):
                again.append(job)
            else:
                job.put(error)
        self._jobs.suspect(again)
        self.restarts += 1
        return True

    # The serving threads.

    def prepare_chat(self, request: ChatRequest) -> Prompt:
        """Render and encode a conversation; raises RequestError if it can't be served."""
        return self._prompts.chat(request)

    def count_chat(self, request: ChatRequest) -> int:
        """Return how many tokens the prompt of a conversation has, whether it fits or not."""
        return self._prompts.count(request)

    def prepare_text(self, request: TextRequest) -> Prompt:
        """Encode a raw prompt; raises RequestError if it can't be served."""
        return self._prompts.text(request)

    def run(self, prompt: Prompt, options: Options) -> Generator[EngineEvent, None, None]:
        """Generate; closing the iterator cancels. `PartStarted` of a call has no id yet."""
        if not self.is_healthy:
            raise Overloaded("The generation thread has stopped. Restart the server.")
        deadline = Deadline(self._config.queue_seconds, self._config.request_seconds)
        cache, size = self._cache, len(prompt.ids)
        if cache is None:
            yield Started(size)
            yield from self._generate_answer(prompt, options, deadline)
            return
        begun = cache.begin(prompt.ids, options.client)
        try:
            loss, position = begun.loss, begun.found.position
            if loss is None:
                yield Started(size, position)
            else:
                yield Started(size, position, str(loss), loss.summary, loss.tokens)
            while not begun.prefill.wait(TICK) and deadline.late() is None:
                yield Progress(0, size, waits=True)
            begun.prefill.queue()
            load = partial(cache.load, begun)
            yield from self._generate_answer(prompt, options, deadline, begun, load)
        finally:
            begun.prefill.end()

    def _generate_answer(
        self,
        prompt: Prompt,
        options: Options,
        deadline: Deadline,
        begun: Begun | None = None,
        load: Callable[[], list[Any]] = list,
    ) -> Iterator[EngineEvent]:
        job = Job(
            lambda job: self._loop_request(job, prompt, options),
            prompt.plan,
            size=len(prompt.ids),
            most=prompt.max_tokens,
            client=options.client,
            kept=begun.found.position or int(begun.prefill.shares) if begun else 0,
            granted=partial(begun.prefill.queue, waits=False) if begun else lambda: None,
            alone=self.sequential,
            distributed=self.distributed,
        )
        self._jobs.add(job)
        try:
            yield from Telling(
                job,
                self.model,
                len(prompt.ids),
                wants_logprobs=options.top_logprobs is not None,
                deadline=deadline,
                alive=lambda: self.is_healthy,
                prefilled=begun.prefill.end if begun else lambda: None,
                load=lambda: self._jobs.begin(job, [] if job.over else load()),
            ).events()
        finally:
            if not job.done:
                job.cancel()

    def _loop_request(self, job: Job, prompt: Prompt, options: Options) -> tuple[Any, Any]:
        done = job.reader.tokens if job.reader else []
        spec = replace(prompt.reader, logprobs=options.top_logprobs is not None)
        sampling, never = options.sampling, prompt.plan.forbidden if prompt.plan else ()
        args = arguments(
            # What other machines get must be plain.
            spec=(prompt.plan and prompt.plan.texts if self.distributed else job, spec),
            sampling=sampling,
            processors={
                "logit_bias": {**sampling.logit_bias, **dict.fromkeys(never, NEVER)} or None,
                "repetition_penalty": sampling.repetition_penalty,
                "repetition_context_size": sampling.repetition_context_size,
                "presence_penalty": sampling.presence_penalty,
                "presence_context_size": sampling.presence_context_size,
                "frequency_penalty": sampling.frequency_penalty,
                "frequency_context_size": sampling.frequency_context_size,
            },
            max_tokens=max(1, prompt.max_tokens - len(done)),
            num_draft_tokens=self._config.num_draft_tokens,
            logprobs=spec.logprobs,
            top_logprobs=options.top_logprobs or 0,
            alone=self.sequential,
        )
        request = loop_request(
            [*prompt.ids, *done],
            loaded=job.loaded,
            side=prompt.side,
            asked=prompt.asked,
            system=prompt.system,
        )
        return request, args
