"""The dashboard in deploy/ asks for figures that a running house really gives, by labels that they really have."""

import json
import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from core.exposition import gather
from tests.integration.test_cameras import ALIVE, Site, until

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana" / "haetae.json"


def asked() -> tuple[set[str], set[str]]:
    """Names of the metrics, and of the labels they are grouped and named by."""
    targets = [target for panel in json.loads(DASHBOARD.read_text())["panels"] for target in panel.get("targets", [])]
    queries = [target["expr"] for target in targets]
    names = {name for query in queries for name in re.findall(r"haetae_\w+", query)}
    groups = {
        one.strip() for query in queries for found in re.findall(r"by \(([^)]*)\)", query) for one in found.split(",")
    }
    legends = {name for target in targets for name in re.findall(r"{{\s*(\w+)\s*}}", target.get("legendFormat", ""))}
    return names, groups | legends


def given(text: str) -> tuple[set[str], set[str]]:
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {sample.name for sample in samples}, {label for sample in samples for label in sample.labels}


def test_every_figure_of_the_dashboard_is_one_that_a_running_house_gives(config):
    names, labels = asked()
    assert len(names) > 10
    site = Site(config)
    try:
        site.add("demo://plaza?seed=1&fps=10")
        site.becomes(*ALIVE)
        missing: list[set[str]] = []

        def complete() -> bool:
            found, found_labels = given(gather(config).decode())
            missing[:] = [names - found, labels - found_labels]
            return not any(missing)

        try:
            until("all figures are there", complete, 30)
        except AssertionError:
            raise AssertionError(f"the dashboard asks for what nobody gives: {missing}") from None
    finally:
        site.close()
