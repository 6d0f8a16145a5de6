"""Whole databases: copied from one to another, backed up into a file, put back, checked."""

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, Table, delete, func, insert, make_url, select, text
from sqlalchemy.exc import DBAPIError

from core.clock import normal_utc
from core.db.engine import make_engine, upgrade
from core.db.migrations import current_revision, known_revisions
from core.db.tables import Base
from core.db.tables.base import UtcTime
from core.errors import DatabaseError

__all__ = ["TableSum", "backup", "check_backup", "copy_database", "known_revisions", "restore", "revision_of"]

ROWS = 1_000
"""Read and written at a time."""

Progress = Callable[[str, int, int], None]
"""Called with a table's name, how many of its rows are done, and how many there are."""


class TableSum(msgspec.Struct, frozen=True):
    """How many rows a table has, and the sum of their hashes, whatever their order."""

    rows: int
    mark: str


def _silent(_table: str, _done: int, _rows: int) -> None:
    pass


def revision_of(engine: Engine) -> str | None:
    """The migration that a database is at; None where it is empty. Raises DatabaseError where it cannot be read."""
    try:
        with engine.connect() as connection:
            return current_revision(connection)
    except DBAPIError as error:
        raise DatabaseError(f"cannot read the database: {error.orig}") from error


# ---- copying


def copy_database(
    source: Engine, target: Engine, *, replace: bool = False, progress: Progress = _silent
) -> dict[str, TableSum]:
    """Copies all rows, as of one moment, into a database of the same revision; all of it or nothing.

    Counts and hashes of what was written are held against what was read before it is committed. `replace` empties the
    target first; without, one that holds anything is refused. Raises DatabaseError.
    """
    tables = Base.metadata.sorted_tables
    try:
        with _snapshot(source) as reading, target.begin() as writing:
            _refuse_unlike(reading, writing)
            if not replace and (full := _first_full(writing)):
                raise DatabaseError(
                    f"the target is not empty: {full} has rows", "use an empty database, or say --replace"
                )
            for table in reversed(tables):
                writing.execute(delete(table))
            sums = {table.name: _copy(reading, writing, table, progress) for table in tables}
            for table in tables:
                written = _sum(writing, table)
                if written != sums[table.name]:
                    raise DatabaseError(f"{table.name} was not copied truly: {sums[table.name]} became {written}")
            return sums
    except DBAPIError as error:
        raise DatabaseError(f"the copy failed: {error.orig}", "nothing was changed in the target") from error


def _snapshot(engine: Engine) -> Connection:
    """A connection that sees one moment throughout; the caller closes it."""
    if engine.dialect.name == "postgresql":
        return engine.connect().execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    return engine.connect()


def _refuse_unlike(reading: Connection, writing: Connection) -> None:
    """What another revision holds would be left out unseen."""
    found, wanted = (current_revision(one) for one in (reading, writing))
    if found != wanted:
        hint = "haetae db upgrade" if found in known_revisions() else "it was upgraded by a newer Haetae: use that one"
        raise DatabaseError(f"the database is at revision {found}, and its copy would be at {wanted}", hint)


def _first_full(connection: Connection) -> str | None:
    for table in Base.metadata.sorted_tables:
        if table.name != "counters" and connection.execute(select(text("1")).select_from(table).limit(1)).first():
            return table.name
    return None


def _copy(reading: Connection, writing: Connection, table: Table, progress: Progress) -> TableSum:
    rows = reading.execute(select(func.count()).select_from(table)).scalar_one()
    done, mark = 0, 0
    progress(table.name, 0, rows)
    for part in _parts(reading, table):
        writing.execute(insert(table), [dict(zip(table.columns.keys(), row, strict=True)) for row in part])
        mark = _add_marks(mark, table, part)
        done += len(part)
        progress(table.name, done, rows)
    return TableSum(done, f"{mark:032x}")


def _sum(connection: Connection, table: Table) -> TableSum:
    done, mark = 0, 0
    for part in _parts(connection, table):
        mark = _add_marks(mark, table, part)
        done += len(part)
    return TableSum(done, f"{mark:032x}")


def _parts(connection: Connection, table: Table) -> Iterable[Sequence[Any]]:
    result = connection.execution_options(stream_results=True, yield_per=ROWS).execute(select(table))
    yield from result.partitions(ROWS)


def _add_marks(mark: int, table: Table, rows: Sequence[Any]) -> int:
    times = [n for n, column in enumerate(table.columns) if isinstance(column.type, UtcTime)]
    for row in rows:
        values = list(row)
        for n in times:
            values[n] = normal_utc(values[n]) if values[n] else values[n]
        line = msgspec.json.encode(values, order="sorted")
        mark += int.from_bytes(hashlib.blake2b(line, digest_size=16).digest())
    return mark % (1 << 128)


# ---- backups: an SQLite file, whatever database they are of


def backup(url: str, file: Path, progress: Progress = _silent) -> dict[str, TableSum]:
    """Writes all of the database, as of one moment, to an SQLite file, and reads it back; returns what is in it.

    Works while everything runs. The file appears under its name only when it was found good. Raises DatabaseError.
    """
    aside = file.with_name(file.name + ".part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        aside.unlink(missing_ok=True)
        source = make_engine(url)
        try:
            if source.dialect.name == "sqlite":
                _vacuum_into(source.url.database or "", aside)
            else:
                upgrade(f"sqlite:///{aside}")
                target = make_engine(f"sqlite:///{aside}", writer=True)
                copy_database(source, target, replace=True, progress=progress)
                target.dispose()
        finally:
            source.dispose()
        sums = check_backup(aside)
        with aside.open("rb+") as written:
            os.fsync(written.fileno())
        aside.replace(file)
    except (OSError, sqlite3.Error) as error:
        raise DatabaseError(f"the backup to {file} failed: {error}") from error
    finally:
        for rest in ("", "-wal", "-shm"):
            aside.with_name(aside.name + rest).unlink(missing_ok=True)
    return sums


def _vacuum_into(source: str, target: Path) -> None:
    with closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as raw:
        raw.execute("VACUUM INTO ?", (str(target),))


def check_backup(file: Path) -> dict[str, TableSum]:
    """Restores a backup into a scratch file beside it, brings that up to date and reads every row.

    Returns what is in it; raises DatabaseError where it is damaged, or no backup of this program.
    """
    if not file.is_file():
        raise DatabaseError(f"there is no file {file}")
    scratch = file.with_name(file.name + ".check")
    engine = make_engine(f"sqlite:///{scratch}")
    try:
        shutil.copyfile(file, scratch)
        with closing(sqlite3.connect(scratch)) as raw:
            found = [line for (line,) in raw.execute("PRAGMA integrity_check")]
            broken = raw.execute("PRAGMA foreign_key_check").fetchone()
        if found != ["ok"] or broken:
            raise DatabaseError(f"{file} is damaged: {found[0] if found != ['ok'] else broken}")
        if revision_of(engine) is None:
            raise DatabaseError(f"{file} is no backup of Haetae: it has no revision")
        upgrade(f"sqlite:///{scratch}")
        with engine.connect() as connection:
            return {table.name: _sum(connection, table) for table in Base.metadata.sorted_tables}
    except (OSError, sqlite3.Error, DBAPIError) as error:
        raise DatabaseError(f"{file} cannot be read: {error}") from error
    finally:
        engine.dispose()
        for rest in ("", "-wal", "-shm"):
            scratch.with_name(scratch.name + rest).unlink(missing_ok=True)


def restore(file: Path, url: str, *, replace: bool = False, progress: Progress = _silent) -> dict[str, TableSum]:
    """Puts a backup in the place of the database; nothing may run that uses it. Returns what is in it now.

    `replace` allows that there is one already: an SQLite file is kept beside as `.before-restore`, PostgreSQL's
    tables are emptied in the same transaction. Raises DatabaseError.
    """
    check_backup(file)
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        _replace_file(file, Path(parsed.database or ""), replace=replace)
        upgrade(url)
        with make_engine(url).connect() as connection:
            return {table.name: _sum(connection, table) for table in Base.metadata.sorted_tables}
    scratch = file.with_name(file.name + ".restore")
    shutil.copyfile(file, scratch)
    try:
        upgrade(f"sqlite:///{scratch}")
        upgrade(url)
        source, target = make_engine(f"sqlite:///{scratch}"), make_engine(url, writer=True)
        try:
            return copy_database(source, target, replace=replace, progress=progress)
        finally:
            source.dispose()
            target.dispose()
    finally:
        for rest in ("", "-wal", "-shm"):
            scratch.with_name(scratch.name + rest).unlink(missing_ok=True)


def _replace_file(file: Path, target: Path, *, replace: bool) -> None:
    if target.exists() and not replace:
        raise DatabaseError(f"there is a database {target} already", "say --replace; the old one is kept beside it")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(target.name + ".restoring")
        shutil.copyfile(file, fresh)
        if target.exists():
            with closing(sqlite3.connect(target)) as raw:
                raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            target.replace(target.with_name(target.name + ".before-restore"))
        for rest in ("-wal", "-shm"):
            target.with_name(target.name + rest).unlink(missing_ok=True)
        fresh.replace(target)
    except (OSError, sqlite3.Error) as error:
        raise DatabaseError(f"cannot put {file} in the place of {target}: {error}") from error
