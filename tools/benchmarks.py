"""Measure this server beside its peers and write docs/benchmarks.md: `python -m tools.benchmarks`.

Rules of this file:
- One command does all: it installs the peers, makes the models, measures each section, and renders.
- Each section's samples are a JSON file in the folder of results, so that `--render` writes the
  page again without measuring, and one section can be measured anew.
- A section that fails leaves its last results as they are, is told, and makes the exit code 1.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlx_tools_server
from tools import bench_sections
from tools.bench_calls import calls
from tools.bench_chart import bars
from tools.bench_page import CHARTS, charted, page
from tools.bench_sections import Lab, Sheet, machine
from tools.peers import FOLDER, OURS, PEERS, PeerError, end_on_terminate, install_all, why_not

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
RESULTS = ROOT / ".benchmarks"
ROUNDS, QUICK_ROUNDS = 3, 1
SECTIONS: Mapping[str, Callable[[Lab], Sheet]] = {
    "agent": bench_sections.agent,
    "calls": calls,
    "text": bench_sections.text,
    "streams": bench_sections.streams,
    "restart": bench_sections.restart,
    "start": bench_sections.start,
}


def models(folder: Path) -> dict[str, Path]:
    """Return the checkpoints to measure with; they are made where they are missing."""
    # It loads mlx, which --render does without.
    from tools import smollm2

    made = folder / "models"
    made.mkdir(parents=True, exist_ok=True)
    gguf, checkpoint = made / smollm2.GGUF_NAME, made / "smollm2"
    if not gguf.is_file():
        with tempfile.TemporaryDirectory() as place:
            found = smollm2.find_gguf() or smollm2.download_gguf(Path(place))
            shutil.copyfile(found, gguf)
    if not (checkpoint / "config.json").is_file():
        smollm2.convert(gguf, checkpoint)
    demo = ROOT / "mlx_tools_server" / "demo_model"
    return {"demo": demo, "smollm2": checkpoint, "gguf": gguf}


def measure(name: str, lab: Lab, results: Path) -> bool:
    """Measure a section and keep its samples; return whether that worked."""
    print(f"{name}: {', '.join(lab.serving(gguf=True))}", flush=True)
    began, load = time.perf_counter(), os.getloadavg()[0]
    try:
        sheet = SECTIONS[name](lab)
    except (PeerError, OSError, subprocess.SubprocessError) as problem:
        print(f"{name}: {problem}", file=sys.stderr, flush=True)
        return False
    seconds = time.perf_counter() - began
    told = result(name, sheet, lab)
    told |= {"load": [load, os.getloadavg()[0]], "cores": os.cpu_count()}
    told |= {"seconds": round(seconds)}
    results.mkdir(parents=True, exist_ok=True)
    (results / f"{name}.json").write_text(json.dumps(told, indent=1) + "\n")
    print(f"{name}: {seconds:.0f} s, {len(sheet.errors)} failed", flush=True)
    return True


def result(name: str, sheet: Sheet, lab: Lab) -> dict[str, Any]:
    """Return what is kept of a section: its samples, and all that they depend on."""
    names = {server for figure in sheet.figures.values() for server in figure["samples"]}
    servers = {
        peer.name: {
            "title": peer.title,
            "version": peer.version or ours(),
            "command": peer.shown,
        }
        for peer in PEERS
        if peer.name in names
    }
    return {
        "section": name,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "python": sys.version.split()[0],
        "rounds": lab.rounds,
        "servers": servers,
        "figures": sheet.figures,
        "errors": sheet.errors,
    }


def ours() -> str:
    """Return this checkout's version, with its commit where git knows it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    commit = done.stdout.strip()
    return mlx_tools_server.__version__ + (f" ({commit})" if commit else "")


def render(results: Path, folder: Path, out: Path) -> None:
    """Write the page from the samples that there are."""
    kept = {path.stem: json.loads(path.read_text()) for path in results.glob("*.json")}
    measured = {name for told in kept.values() for name in told["servers"]}
    missing = {
        peer.name: why_not(peer, folder) or "not asked for"
        for peer in PEERS
        if peer.name not in measured
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page(kept, missing), encoding="utf-8")
    for name in kept.keys() & CHARTS.keys():
        chart = out.parent / "images" / f"benchmarks-{name}.svg"
        chart.parent.mkdir(exist_ok=True)
        chart.write_text(bars(CHARTS[name][0], charted(kept[name])), encoding="utf-8")
    print(out)


def main(argv: Sequence[str] | None = None) -> int:
    """Install, measure and render; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="a round of each, in some minutes")
    parser.add_argument("--rounds", type=int, help=f"how often ({ROUNDS})")
    parser.add_argument("--only", action="append", choices=[*SECTIONS], help="these sections")
    parser.add_argument("--peer", action="append", default=[], help="these peers, not all")
    parser.add_argument("--render", action="store_true", help="measure nothing")
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"the peers' ({FOLDER})")
    parser.add_argument("--results", type=Path, default=RESULTS, help=f"samples ({RESULTS})")
    parser.add_argument("--out", type=Path, default=PAGE, help=f"the page ({PAGE})")
    args = parser.parse_args(argv)
    failed = 0
    try:
        if not args.render:
            install_all([name for name in args.peer if name != OURS], args.folder)
            rounds = args.rounds or (QUICK_ROUNDS if args.quick else ROUNDS)
            lab = Lab(args.folder, args.peer, models(args.folder), rounds, quick=args.quick)
            failed = sum(not measure(name, lab, args.results) for name in args.only or SECTIONS)
        render(args.results, args.folder, args.out)
    except PeerError as problem:
        print(f"benchmarks: {problem}", file=sys.stderr)
        return 1
    return 1 if failed else 0


if __name__ == "__main__":
    end_on_terminate()
    sys.exit(main())
