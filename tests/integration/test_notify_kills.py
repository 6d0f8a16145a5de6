"""A short chaos run on each database: whoever is due is told, under one key, however often the notifier is killed."""

from pathlib import Path

from bench.notify_kills import run_notify_kills

KILLS = 6


def test_everybody_is_told_under_one_key_however_often_the_notifier_is_killed(database_url, tmp_path: Path):
    report = run_notify_kills(KILLS, 3, database_url, tmp_path)
    assert report.events > 2 * KILLS
    assert report.taken == report.events + report.doubles
    zeros = {"lost": 0, "unknown": 0, "keys_differ": 0, "not_sent": 0}
    assert {name: getattr(report, name) for name in zeros} == zeros
    assert report.flawless
