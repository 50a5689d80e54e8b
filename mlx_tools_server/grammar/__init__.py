"""What a model may say next, as grammars: tools and JSON Schemas → Lark rules → token masks.

Rules of this folder:
- No I/O and no mlx. llguidance is imported in `matching` only, the rest writes text.
- A grammar accepts only what the family's parser reads back as the same call; where a schema asks
  for more than a grammar can say, it is loosened step by step, and each step is noted.
- A schema comes from a client: whatever it holds, a grammar is built in bounded time, or refused.
- Nothing is imported here, so that writing grammars doesn't load the engine that runs them.
"""
