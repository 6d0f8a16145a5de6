"""AnalysisLink: the analysis process as `inference` sees it: started, asked, watched, and stood in for."""

import subprocess
import time
from collections.abc import Callable
from typing import Any

import msgspec
import structlog
import zmq

from core.config import Config
from core.events import AnalysisStatus
from core.metrics import Sample, counter, gauge
from core.wire.messages import (
    AnalyzeReply,
    AnalyzeRequest,
    ErrorReply,
    GetStatistics,
    InferenceStatistics,
    Message,
    Pong,
)
from core.wire.rpc import RequestClient
from workers.inference.analysis_process import ENDPOINT
from workers.process import spawn

__all__ = ["AnalysisLink"]

log = structlog.get_logger()

SPARE_S = 0.5
"""So long before the asking camera gives up, rules decide in the place of a process that does not answer."""
STATISTICS_S = 2.0
HUNG_S = 120.0
"""It answers beside its models; without a word for so long, its start and their imports included, it hangs."""
STOP_S = 6.0
BACKOFF_FIRST_S, BACKOFF_MAX_S, STABLE_S = 1.0, 60.0, 30.0
Reply = AnalyzeReply | InferenceStatistics | Pong | ErrorReply


class _Asked(msgspec.Struct, frozen=True):
    owner: Any
    request: AnalyzeRequest
    deadline_s: float


class AnalysisLink:
    """Used by one thread, the one that started the process: its end is this one's too."""

    def __init__(
        self,
        context: zmq.Context[Any],
        config: Config,
        ended: Callable[[Any, AnalyzeReply], None],
        failed: Callable[[Any, AnalyzeRequest, float, AnalysisStatus, str], None],
    ) -> None:
        """`ended` is told of each answer; `failed` of each question, with its deadline, that got none, and why."""
        self._context, self._config, self._ended, self._failed = context, config, ended, failed
        self._wanted = config.vlm.backend != "rules"
        self._process: subprocess.Popen[bytes] | None = None
        self._client: RequestClient | None = None
        self._asked: dict[int, _Asked] = {}
        self._begun_s = self._heard_s = self._again_s = self._told_s = 0.0
        self._ending_s: float | None = None
        """When the process was asked to end; None where it was not."""
        self._deaths = self._deaths_in_row = 0
        self._models: dict[str, dict[str, float]] = {}
        self._statistics_id = 0
        self.tend()

    @property
    def wanted(self) -> bool:
        """Whether a model is to be asked at all; else rules decide here."""
        return self._wanted

    @property
    def socket(self) -> "zmq.Socket[bytes] | None":
        """To be polled for answers; another one after each start of the process."""
        return self._client.socket if self._client else None

    @property
    def models(self) -> dict[str, dict[str, float]]:
        """What the process has loaded, as of some seconds ago."""
        return self._models

    def take_over(self, config: Config) -> None:
        """Other settings: the process reads them by itself; here it is only whether there is to be one."""
        self._config, self._wanted = config, config.vlm.backend != "rules"

    def submit(self, owner: Any, request: AnalyzeRequest, deadline_s: float) -> None:
        """Never blocks. What the process does not answer in time is told to `failed`."""
        if self._client is None or self._ending_s is not None:
            self._failed(owner, request, deadline_s, AnalysisStatus.UNREACHABLE, "no_process")
            return
        left_s = deadline_s - time.monotonic() - SPARE_S
        self._asked[self._client.send(request, max(0.0, left_s))] = _Asked(owner, request, deadline_s)

    def tend(self) -> None:
        """To be called often: takes answers, starts the process where it is wanted, ends it where it is not."""
        for request_id, reply in self._client.receive() if self._client else ():
            self._take(request_id, reply)
        now_s = time.monotonic()
        if self._process is not None and self._process.poll() is not None:
            if self._ending_s is None:
                self._died(now_s)
            else:
                self._let_go("stopping")
        if self._wanted and self._process is None and now_s >= self._again_s:
            self._start(now_s)
        elif self._process is not None and (self._ending_s is not None or not (self._wanted or self._asked)):
            self._end(self._process, now_s)
        if self._process and now_s - max(self._begun_s, self._heard_s) >= HUNG_S:
            self._heard_s = now_s
            log.error("hung_analysis_killed", pid=self._process.pid)
            self._process.kill()  # found dead at the next call
        if self._client and now_s - self._told_s >= STATISTICS_S:
            self._told_s = now_s
            self._statistics_id = self._client.send(GetStatistics(), 10.0)

    def _take(self, request_id: int, reply: Message) -> None:
        if not (isinstance(reply, ErrorReply) and reply.code == "timeout"):
            self._heard_s = time.monotonic()
        asked = self._asked.pop(request_id, None)
        if asked is None:
            if request_id == self._statistics_id and isinstance(reply, InferenceStatistics):
                self._models = {_named(key): sizes for key, sizes in reply.models.items()}
        elif isinstance(reply, AnalyzeReply):
            self._ended(asked.owner, reply)
        else:
            code = reply.code if isinstance(reply, ErrorReply) else "no_answer"
            status = AnalysisStatus.TIMEOUT if code in {"timeout", "deadline"} else AnalysisStatus.INVALID
            self._failed(asked.owner, asked.request, asked.deadline_s, status, code)

    def _start(self, now_s: float) -> None:
        try:
            self._process = spawn("workers.inference.analysis_process", config=self._config)
        except OSError as error:
            self._again_s = now_s + BACKOFF_MAX_S
            log.error("analysis_not_started", reason=str(error))
            return
        self._client = RequestClient(self._context, self._config.endpoint(ENDPOINT), Reply)
        self._begun_s = now_s

    def _died(self, now_s: float) -> None:
        """What it had under way is decided by rules; it is started again, later each time."""
        assert self._process
        if now_s - self._begun_s >= STABLE_S:
            self._deaths_in_row = 0
        self._again_s = now_s + min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(self._deaths_in_row, 20))
        self._deaths += 1
        self._deaths_in_row += 1
        log.error("analysis_died", code=self._process.returncode, asked=len(self._asked))
        self._let_go("process_died")

    def _let_go(self, why: str) -> None:
        if self._client:
            self._client.close()
        self._process = self._client = self._ending_s = None
        self._models = {}
        left, self._asked = list(self._asked.values()), {}
        for asked in left:
            self._failed(asked.owner, asked.request, asked.deadline_s, AnalysisStatus.UNREACHABLE, why)

    def _end(self, process: "subprocess.Popen[bytes]", now_s: float) -> None:
        """Asks it to end, and does not wait for that: it is let go when it has ended, killed where it does not."""
        if self._ending_s is None:
            self._ending_s = now_s
            process.terminate()
        elif now_s - self._ending_s >= STOP_S:
            process.kill()

    def samples(self) -> list[Sample]:
        return [
            gauge("analysis_asked", "Events that the analysis process has to judge.", len(self._asked)),
            counter("analysis_deaths", "Times that the analysis process ended by itself.", self._deaths),
        ]

    def close(self) -> None:
        """Ends the process; what it had under way is told to `failed`."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(STOP_S)
            self._let_go("stopping")


def _named(key: str) -> str:
    return "analysis" if key == "process" else key
