"""The audit log: every change and every refusal, who did it and from where; it is only ever added to."""

from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, insert, select, tuple_

from core.db.tables import AuditRow
from core.ids import NodeId, uuid7

__all__ = ["AuditEntry", "list_audit", "write_audit"]


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """`action` is like "camera.changed" or "access.refused"; `detail` holds no secret."""

    id: str
    at: str
    node_id: NodeId
    actor: str
    action: str
    target: str
    detail: dict[str, Any]
    address: str
    request_id: str


def write_audit(
    connection: Connection,
    *,
    at: str,
    node_id: NodeId,
    actor: str,
    action: str,
    target: str = "",
    detail: dict[str, Any] | None = None,
    address: str = "",
    request_id: str = "",
) -> None:
    """Adds an entry, in the transaction of the change that it tells of."""
    values = {
        "id": str(uuid7()),
        "at": at,
        "node_id": node_id,
        "actor": actor[:200],
        "action": action,
        "target": target[:200],
        "detail": detail or {},
        "address": address[:64],
        "request_id": request_id[:64],
    }
    connection.execute(insert(AuditRow).values(**values))


def list_audit(
    engine: Engine,
    *,
    since: str | None = None,
    until: str | None = None,
    actor: str | None = None,
    action: str | None = None,
    before: str | None = None,
    limit: int = 100,
) -> list[AuditEntry]:
    """The newest first; `before` is the id of the last entry that was seen."""
    query = select(*(getattr(AuditRow, name) for name in AuditEntry.__struct_fields__))
    if since:
        query = query.where(AuditRow.at >= since)
    if until:
        query = query.where(AuditRow.at < until)
    if actor:
        query = query.where(AuditRow.actor == actor)
    if action:
        query = query.where(AuditRow.action == action)
    if before:
        last = select(AuditRow.at, AuditRow.id).where(AuditRow.id == before).subquery()
        query = query.where(tuple_(AuditRow.at, AuditRow.id) < select(last.c.at, last.c.id).scalar_subquery())
    with engine.connect() as connection:
        rows = connection.execute(query.order_by(AuditRow.at.desc(), AuditRow.id.desc()).limit(limit))
        return [AuditEntry(**row) for row in rows.mappings()]
