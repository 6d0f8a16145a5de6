"""The control plane: a REST API under /api/v1, one folder per area."""

import core as core  # before any of us takes structlog: see there
