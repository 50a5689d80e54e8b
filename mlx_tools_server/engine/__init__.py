"""The engine: the only folder that imports mlx, mlx-lm and transformers.

Rules of this folder:
- Everything above it sees prepared prompts and events, never an array or a tokenizer.
- mlx-lm's private names are touched in `seams` only.
- Only evaluated arrays cross threads.
- This file imports nothing, so that `scripted` can be had without mlx.
"""
