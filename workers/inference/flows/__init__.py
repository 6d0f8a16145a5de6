"""Agent flows: what is decided about an event; one file per type."""

from core.errors import ModelError
from workers.inference.flows.base import AgentFlow, Decision
from workers.inference.flows.sequential import SequentialFlow

__all__ = ["AgentFlow", "Decision", "create_flow"]

_FLOWS = {"sequential": SequentialFlow}


def create_flow(name: str) -> AgentFlow:
    """The flow of that name; raises ModelError naming those there are."""
    if name not in _FLOWS:
        raise ModelError(f"unknown flow {name!r}", f"known: {', '.join(_FLOWS)}")
    return _FLOWS[name]()
