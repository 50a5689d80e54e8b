"""Time decoding with and without reading the log probability of each token.

Rules of this file:
- It stands alone: it needs mlx-lm and nothing of ours, so that it can be shown upstream as it is.
- Both ways are measured on one batch, in turns, so that a busy or a warm machine changes both; of
  each pair the other one goes first.
- Only the loop is timed: no tokenizer, no server. Without --model, the model's weights are random.
"""

import argparse
import statistics
import time

import mlx.core as mx
from mlx.utils import tree_map
from mlx_lm.generate import BatchGenerator
from mlx_lm.models import qwen3
from mlx_lm.utils import load

PROMPT = [1, 2, 3, 4, 5, 6, 7, 8]


def random_model(hidden: int, layers: int) -> qwen3.Model:
    """Return a small Qwen3 with random weights."""
    model = qwen3.Model(
        qwen3.ModelArgs(
            model_type="qwen3",
            hidden_size=hidden,
            num_hidden_layers=layers,
            intermediate_size=3 * hidden,
            num_attention_heads=hidden // 64,
            num_key_value_heads=max(1, hidden // 128),
            head_dim=64,
            rms_norm_eps=1e-6,
            vocab_size=32_000,
            max_position_embeddings=32_768,
            tie_word_embeddings=True,
            rope_theta=1e6,
        )
    )
    if mx.default_device() == mx.gpu:
        model.update(tree_map(lambda weight: weight.astype(mx.float16), model.parameters()))
    mx.eval(model.parameters())
    return model


def seconds(generator: BatchGenerator, steps: int, *, read: bool) -> float:
    """Return how long these steps take, reading log probabilities as the server does or not."""
    start = time.perf_counter()
    for _ in range(steps):
        for response in generator.next()[1]:
            if read:
                response.logprobs[response.token].item()
    return time.perf_counter() - start


def measure(model: object, batch: int, steps: int, pairs: int) -> list[tuple[float, float]]:
    """Return the milliseconds of a step without and with reading, for each pair."""
    # The server decodes on the default stream, too.
    generator = BatchGenerator(
        model,
        max_tokens=steps * (2 * pairs + 4),
        prefill_batch_size=batch,
        stream=mx.default_stream(mx.default_device()),
    )
    generator.insert([PROMPT] * batch)
    while len(generator.next()[1]) < batch:
        pass
    for read in (False, True):
        seconds(generator, steps, read=read)
    measured = []
    for pair in range(pairs):
        order = (False, True) if pair % 2 else (True, False)
        taken = {read: 1e3 * seconds(generator, steps, read=read) / steps for read in order}
        measured.append((taken[False], taken[True]))
    generator.close()
    return measured


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description="Time decoding without and with log probabilities."
    )
    parser.add_argument("--model", help="a checkpoint; random weights if not given")
    parser.add_argument("--hidden", type=int, default=512, help="of random weights; 64 times n")
    parser.add_argument("--layers", type=int, default=12, help="of random weights")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--steps", type=int, default=32, help="in each half of a pair")
    parser.add_argument("--pairs", type=int, default=20)
    args = parser.parse_args()
    model = load(args.model)[0] if args.model else random_model(args.hidden, args.layers)
    print(f"mlx {mx.__version__}, {mx.default_device()}, {args.pairs} pairs of {args.steps} steps")
    print("batch  ms a step, medians: not read    read   read / not read, by pair (quartiles)")
    for batch in args.batch:
        measured = measure(model, batch, args.steps, args.pairs)
        without, reading = (statistics.median(column) for column in zip(*measured, strict=True))
        low, ratio, high = statistics.quantiles([b / a for a, b in measured], n=4)
        print(
            f"{batch:>5} {without:>27.3f} {reading:>7.3f}   {ratio:.3f} ({low:.3f} to {high:.3f})"
        )


if __name__ == "__main__":
    main()
