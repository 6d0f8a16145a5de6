"""The logger: the only writer of events."""
