"""`python -m mlx_tools_server`.

Rule of this file: it only calls `main`.
"""

from __future__ import annotations

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
