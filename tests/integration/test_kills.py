"""A short chaos run on each database: what was acknowledged is stored once and in order, whoever is killed."""

import pytest

from bench.kills import run_kills

KILLS = 15


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_nothing_acknowledged_is_lost_doubled_or_out_of_order_whoever_is_killed(database, request):
    server = request.getfixturevalue("postgres") if database == "postgresql" else None
    report = run_kills(KILLS, seed=3, server=server)
    assert report.acknowledged > 2 * KILLS
    assert report.kills_logger > 0
    assert report.kills_logger + report.kills_senders == KILLS
    assert report.postgres_restarts == (2 if server else 0)
    zeros = {"acknowledged_lost": 0, "doubled": 0, "unknown": 0, "out_of_order": 0, "behind_journal": 0}
    assert {name: getattr(report, name) for name in zeros} == zeros
    assert report.flawless
