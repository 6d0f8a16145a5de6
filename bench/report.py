"""Runs the benchmarks and writes docs/benchmarks.md: this machine, these versions, medians and their spread.

    python -m bench.report [--quick] [--keep DIR] [--output FILE] [NAME...]

`--keep` holds each benchmark's JSON: one that is there already is not run again.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

__all__ = ["main"]

LIBRARIES = ("av", "numpy", "opencv-python-headless", "pyzmq", "msgspec", "sqlalchemy", "torch")
PEERS = ("iceoryx2", "litserve", "ray")
BUSY = 2.0
"""Load for each core that the benchmarks do not make by themselves."""


class Figure(msgspec.Struct, frozen=True):
    """A row of a table: where it stands in the benchmark's JSON, what it says, and what it should be."""

    path: str
    text: str
    aim: str = ""


class Section(msgspec.Struct, frozen=True):
    """A benchmark: `python -m bench.NAME`."""

    name: str
    title: str
    about: str
    figures: tuple[Figure, ...]
    notes: str = ""
    """What explains a figure that falls short."""


def _frame_figures() -> tuple[Figure, ...]:
    sizes = (("1080p_i420", "1080p I420", 1.05), ("720p_i420", "720p I420", 1.15), ("720p_bgr", "720p BGR", 1.15))
    rows: list[Figure] = []
    for size, text, aim in sizes:
        rows += [
            Figure(f"{size}.publish_over_memcpy", f"{text}: publishing over a bare memcpy", f"<= {aim}"),
            Figure(f"{size}.fps_over_queue", f"{text}: frames/s over multiprocessing.Queue", ">= 10"),
            Figure(f"{size}.fps_over_zmq", f"{text}: frames/s over pyzmq without copies", ">= 1.8"),
            Figure(f"{size}.cpu_over_zmq", f"{text}: CPU time a frame over pyzmq's", "<= 0.6"),
            Figure(f"{size}.fps_over_iceoryx2", f"{text}: frames/s over iceoryx2 of as many slots", ">= 1.0"),
            Figure(f"{size}.fps_over_iceoryx2_keeping", f"{text}: ... where it keeps as many older frames", ""),
            Figure(f"{size}.fps_over_segment_per_frame", f"{text}: frames/s over a segment opened a frame", ">= 1.5"),
        ]
    rows += [
        Figure("torn_accepted", "torn frames accepted", "0"),
        Figure("wake_p50_us", "publishing to having it, p50, us"),
        Figure("wake_p99_us", "publishing to having it, p99, us"),
        Figure("wake_p50_over_zmq", "its p50 over that of a ZeroMQ message", "<= 0.15"),
        Figure("wake_bare_p50_over_zmq", "... of a bare byte in a pipe over it: the least there is"),
        Figure("wake_p50_over_bare", "publishing to having it, p50, over a bare byte in a pipe"),
    ]
    for fleet, text in (("cameras_16", "16 cameras of 720p"), ("cameras_64", "64 small cameras")):
        rows += [
            Figure(f"{fleet}.seen_share", f"{text} at 15 frames/s, one reader: share of frames seen", ">= 0.999"),
            Figure(f"{fleet}.age_p99_ms", f"{text}: age when seen, p99, ms", "<= 1"),
        ]
    return tuple(rows)


def _inference_figures() -> tuple[Figure, ...]:
    rows: list[Figure] = []
    for regime in ("heavy", "light"):
        rows += [
            Figure(f"{regime}.haetae_fps", f"{regime}: frames/s"),
            Figure(f"{regime}.haetae_p99_ms", f"{regime}: p99, ms"),
            Figure(
                f"{regime}.throughput_over_direct",
                f"{regime}: throughput over the bare network, full batches",
                ">= 0.95" if regime == "heavy" else "",
            ),
        ]
        for peer, text in (
            ("litserve", "LitServe"),
            ("rayserve", "Ray Serve, by its handle"),
            ("rayserve_http", "Ray Serve, HTTP"),
        ):
            aim = ">= 2" if regime == "light" else ""
            rows.append(Figure(f"{regime}.throughput_over_{peer}", f"{regime}: throughput over {text}", aim))
            rows.append(Figure(f"{regime}.{peer}_p99_ms", f"{regime}: p99 of {text}, ms"))
    return (
        *rows,
        Figure("heavy.overload.worst_share_error", "twice the load: worst camera off its fair share", "<= 0.1"),
        Figure("heavy.overload.age_p99_ms", "twice the load: age when scored, p99, ms"),
        Figure("heavy.overload.age_limit_ms", "... which should be at most: a frame interval and two batches, ms"),
        Figure("heavy.overload.unanswered", "twice the load: requests without an answer", "0"),
    )


SECTIONS = (
    Section(
        "frames",
        "Frame bus",
        "Bringing frames from one process to another, in rounds that take turns with each other way.",
        _frame_figures(),
        "iceoryx2 fills the slot that was given back last, which is still in the processor's cache: four slots are in "
        "use of six, and copying into them takes a seventh (720p) to a fifth (1080p) less time; publishing and taking "
        "cost the same beside the copy. The ring cannot do so: of n slots it promises the last n - 1 frames to readers "
        "that hold references to older ones (the batcher's mailboxes, key frames, whoever is a few frames behind), so "
        "only the oldest may be overwritten. Told to keep as many older frames, iceoryx2 goes round its slots too: "
        "that row is the one of equal promises. The fewer the slots (`bus.main_slots`) and the smaller the frames, the "
        "smaller the gap.\n\n"
        "The least wake-up that there is from Python, a blocking read of a byte in a pipe, takes an eighth to a "
        "quarter of a ZeroMQ message's time already. Sockets, semaphores, futexes and descriptors of events are no "
        "faster, and spinning before sleeping gains nothing unless it lasts from frame to frame, which takes a core. "
        "What the bus takes beyond it is its Python on caches that have gone cold in between. On a machine with "
        "more processes ready than cores, the age of a fleet's frames is how long their reader waits for its turn.",
    ),
    Section(
        "inference",
        "Batcher",
        "The inference process with a small network of its own, beside the same network served by others.",
        _inference_figures(),
        "In the heavy regime the network has one core, and the other is shared by preparation, sockets and the program "
        "that sends the frames; the bare network has no company. In the light one, receiving and answering a request "
        "in Python takes longer than the network does.",
    ),
    Section(
        "pipeline",
        "Pipeline",
        "Four cameras of H.264 in 720p at 15 frames/s, analysed at 5, all processes together.",
        (
            Figure("still.cpu_over_decode", "still: CPU time over decoding alone at the same pace", "<= 1.25"),
            Figure("still.cpu_over_fast_decode", "still: over decoding alone as fast as it goes"),
            Figure("moving.cpu_over_decode", "moving: CPU time over decoding alone at the same pace", "<= 4"),
            Figure("moving.cpu_over_fast_decode", "moving: over decoding alone as fast as it goes"),
            Figure("still.age_p99_ms", "still: capture to score, p99, ms", "<= 150"),
            Figure("moving.age_p99_ms", "moving: capture to score, p99, ms", "<= 150"),
            Figure("cameras_over_threads", "cameras a core over a program of OpenCV threads", ">= 2"),
            Figure("cameras_per_core", "cameras a core, 80 % of the time still"),
        ),
        "By CPU time, not by adding cameras until one falls behind. Most of what a camera costs is decoding, which "
        "both programs do. These files have P frames only, so that none can be left out. What a still scene costs "
        "beyond decoding is mostly the look whether the camera still sees what it should, and that mostly the reading "
        "of a picture that lies in no cache.",
    ),
)


def run(name: str, *, quick: bool, keep: Path | None) -> dict[str, Any]:
    """A benchmark's figures; raises RuntimeError with what it said where it fails."""
    kept = keep / f"{name}.json" if keep else None
    if kept and kept.is_file():
        return json.loads(kept.read_text())
    print(f"bench.{name} ...", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", f"bench.{name}", "--json", *(["--quick"] if quick else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"bench.{name}: {done.stderr.strip()}")
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(done.stdout)
    return json.loads(done.stdout)


def machine() -> list[tuple[str, str]]:
    """What the figures depend on; nothing that names this very machine."""
    info = Path("/proc/cpuinfo").read_text()
    model = next((line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")), "")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return [
        ("processor", f"{model or platform.machine()}, {os.cpu_count()} cores"),
        ("memory", f"{memory:.0f} GiB"),
        ("system", f"{platform.system()} {platform.release().split('-')[0]}, {platform.machine()}"),
        ("Python", platform.python_version()),
        ("libraries", _versions(LIBRARIES)),
        ("peers", _versions(PEERS) or "none installed"),
        ("load", f"{os.getloadavg()[2]:.1f} on average in the quarter of an hour before the end"),
    ]


def _versions(names: Sequence[str]) -> str:
    found: list[str] = []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def lookup(found: dict[str, Any], path: str) -> Any:
    """The value at a path such as "still.age_p99_ms"; None where there is none."""
    value: Any = found
    for part in path.split("."):
        if not isinstance(value, dict) or part not in value:
            return None
        value = value[part]
    return value


def shown(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def table(section: Section, found: dict[str, Any]) -> list[str]:
    lines = ["| | median | quartiles | aim |", "|---|---|---|---|"]
    for figure in section.figures:
        value = lookup(found, figure.path)
        if value is None:
            continue
        low, high = lookup(found, f"{figure.path}_q1"), lookup(found, f"{figure.path}_q3")
        spread = f"{shown(low)} to {shown(high)}" if low is not None and high is not None else ""
        lines.append(f"| {figure.text} | {shown(value)} | {spread} | {figure.aim} |")
    return lines


def skipped(found: dict[str, Any]) -> dict[str, str]:
    """What was left out anywhere in the figures, and why."""
    left: dict[str, str] = dict(found.get("skipped", {}))
    for value in found.values():
        if isinstance(value, dict):
            left |= skipped(value)
    return left


def render(results: dict[str, dict[str, Any]], *, quick: bool) -> str:
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`; what each figure means stands at the head of its module in `bench/`. All comparisons",
        "are made in one run, in turns; a ratio is the median of neighbouring pairs, with its quartiles.",
        *(["", "**Quick form: one short round each, no figure to quote.**"] if quick else []),
        "",
        f"Measured on {datetime.now(UTC):%Y-%m-%d}.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in machine()),
    ]
    if os.getloadavg()[2] > BUSY * (os.cpu_count() or 1):
        lines += ["", "**Other work ran on this machine at the same time: to be measured again on a quiet one.**"]
    for section in SECTIONS:
        if section.name not in results:
            continue
        found = results[section.name]
        lines += ["", f"## {section.title}", "", f"{section.about} `python -m bench.{section.name}`", ""]
        lines += table(section, found)
        if section.notes:
            lines += ["", section.notes]
        if left := skipped(found):
            lines += ["", *(f"Left out: {name} ({reason})." for name, reason in left.items())]
    return "\n".join([*lines, ""])


def main() -> None:
    names = [section.name for section in SECTIONS]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these: {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="one short round each, as CI runs them")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep each benchmark's JSON there, and use what is there"
    )
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks.md"))
    args = parser.parse_args()
    if unknown := set(args.names) - set(names):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    results = {name: run(name, quick=args.quick, keep=args.keep) for name in args.names or names}
    args.output.write_text(render(results, quick=args.quick))
    print(f"wrote {args.output}")


if __name__ == "__main__":
    main()
