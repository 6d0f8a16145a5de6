"""Which version of Haetae this is."""

from importlib.metadata import version

__all__ = ["VERSION"]

VERSION = version("haetae")
