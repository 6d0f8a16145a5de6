"""Events: what they are, how a score curve becomes one, and the journal that keeps them."""

from core.events.model import AnomalyEvent, EventMedia, EventState, EventStep, Severity

__all__ = ["AnomalyEvent", "EventMedia", "EventState", "EventStep", "Severity"]
