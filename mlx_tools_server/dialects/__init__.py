"""The API dialects: what clients send becomes a request, events become what clients read.

Rules of this folder:
- Pure: no I/O, no mlx. A dialect reads a body and encodes events, and keeps no other state.
- Dialects don't import each other; what they share is in `wire` and `dialects.base`.
"""
