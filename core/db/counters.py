"""Counters in the database: numbers whose order is the order of the commits."""

from sqlalchemy import Connection, select, update

from core.db.tables import CounterRow

__all__ = ["counter", "set_counter", "take_numbers"]


def counter(connection: Connection, name: str) -> int:
    """The last number that was taken; 0 where none was."""
    return connection.execute(select(CounterRow.value).where(CounterRow.name == name)).scalar() or 0


def set_counter(connection: Connection, name: str, value: int) -> None:
    connection.execute(update(CounterRow).where(CounterRow.name == name).values(value=value))


def take_numbers(connection: Connection, name: str, count: int) -> int:
    """The first of `count` new numbers; whoever else wants some waits for this transaction to end."""
    taken = update(CounterRow).where(CounterRow.name == name).values(value=CounterRow.value + count)
    return connection.execute(taken.returning(CounterRow.value)).scalar_one() - count + 1
