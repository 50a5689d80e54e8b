"""The row that makes the toy call a family."""

from mlx_tools_server.families import Family, Shape

from .toy_call import OPEN, ToyParser, write

TOY = Family("toy", marks=(OPEN,), shape=Shape("toy call", write, ToyParser))
