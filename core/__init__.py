"""What Haetae's processes share. Importing it starts nothing and pulls in neither torch nor cv2."""

import sys

if "structlog" not in sys.modules and "rich" not in sys.modules:
    # structlog takes rich where it is installed, for colours in tracebacks: 70 ms of each process's start, never shown
    sys.modules["rich"] = None  # pyright: ignore[reportArgumentType] - how the import system is told that there is none
    try:
        import structlog as structlog  # for all of us
    finally:
        del sys.modules["rich"]
