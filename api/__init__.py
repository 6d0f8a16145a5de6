"""The control plane: a REST API under /api/v1, one folder per area."""
