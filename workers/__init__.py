"""Haetae's processes, a folder each; none imports another."""

import core as core  # before any of us takes structlog: see there
