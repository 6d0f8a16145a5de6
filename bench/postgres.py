"""A PostgreSQL server of one's own, for a benchmark or a test: made from nothing, on a Unix socket, gone afterwards."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["ScratchPostgres", "find_postgres"]

START_S = 120.0
USER = "haetae"


def find_postgres() -> Path | None:
    """The folder of the newest PostgreSQL's programs; None where it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if found:
        return found[-1]
    initdb = shutil.which("initdb")
    return Path(initdb).parent if initdb else None


class ScratchPostgres:
    """A context manager. PostgreSQL refuses to run as root: then it runs as the user `postgres`.

    fsync is on, as in production, unless `fsync` says otherwise; nothing listens on TCP.
    """

    def __init__(self, *, fsync: bool = True) -> None:
        programs = find_postgres()
        if programs is None:
            raise RuntimeError("PostgreSQL is not installed: apt-get install postgresql")
        self._programs = programs
        self._as = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        self._fsync = fsync
        self._folder = Path(tempfile.mkdtemp(prefix="haetae-pg-"))
        self._databases = 0
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if self._as:
            shutil.chown(self._folder, "postgres", "postgres")
        self._run("initdb", "-D", self._data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        self.start()
        return self

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def _run(self, program: str, *args: str) -> None:
        done = subprocess.run(
            [*self._as, str(self._programs / program), *args], capture_output=True, cwd=self._folder, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stderr.decode(errors='replace')[-2000:]}")

    def start(self) -> None:
        """Starts the server and waits until it takes connections."""
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._folder),
            "fsync": "on" if self._fsync else "off",
            "max_connections": "50",
            "max_wal_size": "2GB",
            "shared_buffers": "256MB",
        }
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [*self._as, str(self._programs / "postgres"), "-D", self._data, *options],
                stdout=log,
                stderr=log,
                cwd=self._folder,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        ready = [str(self._programs / "pg_isready"), "-q", "-h", str(self._folder), "-U", USER, "-d", "postgres"]
        while subprocess.run(ready, check=False).returncode:
            if time.monotonic() > deadline or self._server.poll() is not None:
                raise RuntimeError((self._folder / "log").read_text()[-2000:])
            time.sleep(0.05)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Ends the server: SIGINT breaks connections off in order, SIGQUIT leaves recovery to the next start."""
        if self._server is None:
            return
        pid = int((self._folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, number)
        self._server.wait(START_S)
        self._server = None

    def create_database(self) -> str:
        """The SQLAlchemy URL of a new, empty database."""
        self._databases += 1
        name = f"haetae_{self._databases}"
        self._run("createdb", "-h", str(self._folder), "-U", USER, name)
        return f"postgresql+psycopg://{USER}@/{name}?host={self._folder}"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
