"""The tables, as SQLAlchemy models, a module per area; migrations/ brings databases to them."""

from core.db.tables.accounts import (
    ApiKeyRow,
    AuditRow,
    CameraGrantRow,
    InvitationRow,
    LoginDelayRow,
    RefreshTokenRow,
    TokenFamilyRow,
    UserRow,
)
from core.db.tables.base import Base
from core.db.tables.cameras import (
    CameraGroupMemberRow,
    CameraGroupRow,
    CameraRow,
    CameraStateRow,
    NormalityRow,
    ZoneRow,
)
from core.db.tables.events import (
    AcknowledgementRow,
    CounterRow,
    EventAnalysisRow,
    EventMediaRow,
    EventPathRow,
    EventRow,
    EventStepRow,
    FeedbackRow,
)
from core.db.tables.notifications import (
    ChannelRow,
    DeliveryRow,
    OutboxRow,
    PushSubscriptionRow,
    RuleRow,
    SuppressionRow,
)
from core.db.tables.statistics import CoverageRow, DayPackRow, EventStatisticsRow, JobRunRow, ScoreHistoryRow

__all__ = [
    "AcknowledgementRow",
    "ApiKeyRow",
    "AuditRow",
    "Base",
    "CameraGrantRow",
    "CameraGroupMemberRow",
    "CameraGroupRow",
    "CameraRow",
    "CameraStateRow",
    "ChannelRow",
    "CounterRow",
    "CoverageRow",
    "DayPackRow",
    "DeliveryRow",
    "EventAnalysisRow",
    "EventMediaRow",
    "EventPathRow",
    "EventRow",
    "EventStatisticsRow",
    "EventStepRow",
    "FeedbackRow",
    "InvitationRow",
    "JobRunRow",
    "LoginDelayRow",
    "NormalityRow",
    "OutboxRow",
    "PushSubscriptionRow",
    "RefreshTokenRow",
    "RuleRow",
    "ScoreHistoryRow",
    "SuppressionRow",
    "TokenFamilyRow",
    "UserRow",
    "ZoneRow",
]
