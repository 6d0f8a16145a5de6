"""`haetae evaluate-flows`: every flow on stored events, side by side."""

import argparse
import time
from collections import Counter
from itertools import islice
from typing import Any

import msgspec

from core.clock import time_zone
from core.db import make_engine, upgrade
from core.db.event_pages import EventFilter, iterate_events
from core.db.events import get_detail
from core.errors import NotFound
from core.events import Severity
from workers.commands.camera import configure
from workers.commands.events import moment
from workers.commands.replay import analyzer_for, load_incident, rerun
from workers.inference.flows import FLOWS

__all__ = ["add_parser"]

_RANKS = list(Severity)


class Tally(msgspec.Struct):
    """What a flow made of the events."""

    severities: Counter[str]
    verdicts: Counter[str]
    types: Counter[str]
    review: int = 0
    rejected_real: int = 0
    """Rejected, though a person said that it was real."""
    confirmed_normal: int = 0
    """Confirmed, though a person said that it was normal."""
    calls: int = 0
    ms: float = 0.0


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("evaluate-flows", help="compare agent flows on stored events")
    parser.add_argument("--since", metavar="TIME", default="168h", help="24h, or a time such as 2026-03-01T18:00Z")
    parser.add_argument("--limit", type=int, default=500, metavar="N", help="the newest so many events (500)")
    parser.add_argument("--flow", action="append", choices=list(FLOWS), help="this flow; may be repeated (all)")
    parser.add_argument(
        "--engine",
        choices=["recorded", "rules", "configured"],
        default="recorded",
        help="who answers: what was said then (default), the measurements alone, or the configured backend",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    config = configure(args)
    upgrade(config.database_url)
    engine = make_engine(config.database_url)
    wanted = EventFilter(since=moment(args.since, time_zone(config.site.time_zone)))
    flows = args.flow or list(FLOWS)
    tallies = {flow: Tally(Counter(), Counter(), Counter()) for flow in flows}
    used = left_out = 0
    for stored in list(islice(iterate_events(engine, wanted), args.limit)):
        try:
            incident = load_incident(engine, config, stored.event.id)
        except NotFound:
            left_out += 1
            continue
        detail = get_detail(engine, stored.event.id)
        said = [one.verdict for one in detail.feedback] if detail else []
        used += 1
        for flow in flows:
            analyzer = analyzer_for(args.engine, config, incident)
            began = time.perf_counter()
            try:
                decision = rerun(config, incident, flow, analyzer)
            finally:
                analyzer.close()
            tally, verdict = tallies[flow], str(decision.analysis.verdict)
            tally.ms += 1000 * (time.perf_counter() - began)
            tally.calls += decision.calls
            tally.severities[str(decision.severity)] += 1
            tally.verdicts[verdict] += 1
            tally.types[str(decision.analysis.vlm_type)] += 1
            tally.review += decision.analysis.needs_review
            tally.rejected_real += verdict == "rejected" and said[-1:] == ["real"]
            tally.confirmed_normal += verdict == "confirmed" and said[-1:] == ["normal"]
    engine.dispose()
    if args.json:
        print(msgspec.json.encode({"events": used, "left_out": left_out, "flows": tallies}).decode())
        return 0
    print(f"{used} events" + (f", {left_out} without stored evidence left out" if left_out else ""))
    for flow, tally in tallies.items():
        severities = "  ".join(f"{one} {tally.severities[one]}" for one in map(str, _RANKS) if tally.severities[one])
        verdicts = "  ".join(f"{name} {count}" for name, count in sorted(tally.verdicts.items()))
        print(f"{flow:14} {severities}\n{'':14} {verdicts}  to be reviewed {tally.review}")
        print(
            f"{'':14} calls {tally.calls}, {tally.ms / max(1, used):.1f} ms each; against what people said: "
            f"rejected but real {tally.rejected_real}, confirmed but normal {tally.confirmed_normal}"
        )
    return 0
