"""A local MLX model as a first-class coding agent's server."""

__version__ = "0.1.0.dev0"
