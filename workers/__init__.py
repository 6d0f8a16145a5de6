"""Haetae's processes, a folder each; none imports another."""
