"""Agent flows: what is decided about an event; one file per type."""

from core.errors import ModelError
from workers.inference.flows.base import AgentFlow, Budget, Decision, Run
from workers.inference.flows.collaborative import CollaborativeFlow
from workers.inference.flows.hierarchical import HierarchicalFlow
from workers.inference.flows.policy import Policy, Ruling
from workers.inference.flows.sequential import SequentialFlow

__all__ = ["FLOWS", "AgentFlow", "Budget", "Decision", "Policy", "Ruling", "Run", "create_flow"]

FLOWS = {"sequential": SequentialFlow, "hierarchical": HierarchicalFlow, "collaborative": CollaborativeFlow}


def create_flow(name: str) -> AgentFlow:
    """The flow of that name; raises ModelError naming those there are."""
    if name not in FLOWS:
        raise ModelError(f"unknown flow {name!r}", f"known: {', '.join(FLOWS)}")
    return FLOWS[name]()
