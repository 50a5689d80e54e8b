"""`doctor`: what is wrong with a machine, a model or a setting, why it matters, and what to do.

Rules of this folder:
- It changes nothing: no file is written, deleted or downloaded, no setting is made.
- What needs mlx is asked of `engine`, and only where nobody asked for `--fast`.
- Exit code 0 says that there is no problem, 1 that there is one, 2 that it was called wrongly.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ..chosen import with_demo_model
from ..config import PROG
from ..errors import StartupError
from ..flags import read_args
from .checks import all_findings
from .report import as_json, as_text, exit_code, wants_colour
from .settings import read_settings

USAGE = f"""usage: {PROG} doctor [--fast] [--json] [--self-check] [any option of the server]

Look at the machine, the model and the settings that a server would start with, and say what is
wrong, why it matters, and what to do about it.

  --model-path DIR  the model to look at
  --fast            look at nothing that takes longer than a moment, and import no mlx
  --self-check      prove on this machine what no test elsewhere can: with the built-in model and,
                    if one is named, with yours; it prints a report to paste into an issue
  --json            one JSON document
  --help            this text; `{PROG} --help` lists the server's options

Exit code: 0 no problem, 1 a problem, 2 called wrongly.
"""
OWN = ("--fast", "--json", "--self-check")


def run(argv: Sequence[str]) -> int:
    """Look, and say what was found; return the exit code."""
    if "--help" in argv or "-h" in argv:
        sys.stdout.write(USAGE)
        return 0
    fast, as_document, proves = (flag in argv for flag in OWN)
    if fast and proves:
        raise StartupError("--fast and --self-check exclude each other", "Give one of them.")
    args = read_args([each for each in argv if each not in OWN])
    settings = read_settings(args, os.environ)
    config = with_demo_model(settings.config)
    colour = wants_colour(sys.stdout, os.environ)
    if proves:
        from .proof import prove

        return prove(config, as_document=as_document, colour=colour)
    findings = all_findings(settings, config, fast=fast)
    text = as_json(findings) if as_document else as_text(findings, colour=colour)
    sys.stdout.write(f"{text}\n")
    return exit_code(findings)
