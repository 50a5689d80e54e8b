"""The engine: the only folder that imports mlx, mlx-lm and transformers.

Rules of this folder:
- Everything above it sees prepared prompts and events, never an array or a tokenizer.
- mlx-lm's private names are touched in `seams` only.
- Only evaluated arrays cross threads.
- This file imports none of them, so that `scripted` can be had without mlx.
"""

from ..open_files import ask_for

# It sets the limit of open files, hard and soft, when it is imported: who may have fewer could not
# start, and who has more would lose them.
# Unnecessary with patches/015-keep-file-limit.
ask_for("mlx_lm.utils")
