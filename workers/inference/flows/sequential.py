"""The sequential flow: one question, then the table, the plan and the gate."""

from workers.inference.flows.base import Decision, Run
from workers.inference.vlm import EVERYTHING

__all__ = ["SequentialFlow"]


class SequentialFlow:
    """Analyse, verify, grade, plan, gate; one call, and one more look where the answer was unsure."""

    name = "sequential"
    calls = 1

    def run(self, run: Run) -> Decision:
        said = run.ask(EVERYTHING) or run.measured
        return run.conclude(said)
