"""A server that speaks OpenAI's protocol (vLLM, Ollama, llama.cpp, SGLang, OpenAI), asked by its URL.

Verdict and type first, in few tokens; the description second, and only in words. What a server promises about the form
of its answers is not relied upon: each is checked, put right once, and else given up. Where all fails, rules stand in.
"""

import asyncio
import base64
import random
import stat
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import TimeoutError as FutureTimeout
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec
import structlog

from core.config import Config, VlmConfig
from core.errors import AddressRefused, ConfigError
from core.events import AnalysisStatus
from core.events.analysis import clean_text
from core.security.networks import AllowedNetworks, resolve
from core.security.pinned import pinned_request
from workers.inference.vlm.answers import Described, Judged, NotUnderstood, as_analysis, described, judged
from workers.inference.vlm.base import Call, Finding, Incident, Question
from workers.inference.vlm.pictures import Picture, chosen_pictures, fewer
from workers.inference.vlm.prompts import Prompt, describing, judging
from workers.inference.vlm.rules import stand_in

__all__ = ["OpenAiAnalyzer", "create"]

log = structlog.get_logger()

T = TypeVar("T")

RUNGS = ("json_schema", "dialect", "json_object", "text")
"""How a server is asked for JSON, the surest way first; the first that it takes is remembered."""
CONNECT_S = 3.0
LEAST_S = 0.2
"""With less time left, nothing is tried any more."""
FIRST_WAIT_S = 0.3
DESCRIBE_LEAST_S = 1.0
OUTPUT_KEPT = 2000
BUSY = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY}
OTHER_FORM = {
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.NOT_IMPLEMENTED,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
}
"""What servers answer to a response format that they do not know."""


class _Failed(Exception):
    """A server gave no usable answer."""

    def __init__(
        self, status: AnalysisStatus, why: str, *, code: int = 0, output: str = "", retry_s: float = 0
    ) -> None:
        super().__init__(why)
        self.status, self.why, self.code, self.output, self.retry_s = status, why, code, output, retry_s


class _Circuit:
    """Whether a server is worth asking: after so many failures in a row it rests, then one question tries it."""

    def __init__(self, broken_after: int, rest_s: float) -> None:
        self._broken_after, self._rest_s = broken_after, rest_s
        self._failures = 0
        self._open_until_s = 0.0

    def lets_through(self, now_s: float) -> bool:
        if self._failures < self._broken_after:
            return True
        if now_s < self._open_until_s:
            return False
        self._open_until_s = now_s + self._rest_s
        return True

    def went(self, *, well: bool, now_s: float) -> None:
        self._failures = 0 if well else self._failures + 1
        if self._failures >= self._broken_after:
            self._open_until_s = now_s + self._rest_s


class _Server:
    """One URL: which form of question it takes, and how it fared lately."""

    def __init__(self, url: str, limits: VlmConfig) -> None:
        self.url, self.parts = url, urlsplit(f"{url}/chat/completions")
        self.rung = 0
        self.circuit = _Circuit(limits.broken_after, limits.rest_s)


class OpenAiAnalyzer:
    """All requests are made by one thread of its own, so that each can be ended exactly at its deadline."""

    name = "openai"

    def __init__(self, config: Config) -> None:
        """Raises ConfigError where URL, model or key are not usable."""
        limits = config.vlm
        if not limits.url or not limits.model:
            raise ConfigError("the openai backend needs vlm.url and vlm.model")
        self._limits, self._media_dir = limits, config.media_dir.resolve()
        self._allowed = AllowedNetworks(config.networks.vlm)
        self._key = _read_key(config)
        self._servers = [_Server(url, limits) for url in (limits.url, limits.fallback_url) if url]
        self.model = limits.model
        self.source = f"openai/{clean_text(limits.model, 56)}"
        self._loop = asyncio.new_event_loop()
        self._client: httpx.AsyncClient | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="vlm-requests", daemon=True)
        self._thread.start()
        self._closed = False

    # ---- what is asked

    def analyze(self, incident: Incident, question: Question, deadline_s: float) -> Finding:
        calls: list[Call] = []
        try:
            answer, pictures, server = self._judge(incident, question, deadline_s, calls)
        except _Failed as failed:
            return Finding(analysis=stand_in(incident, question, failed.status, failed.why), calls=tuple(calls))
        words = self._describe(server, incident, answer, pictures, deadline_s, calls)
        return Finding(analysis=as_analysis(incident, answer, words, self.source), calls=tuple(calls))

    def _judge(
        self, incident: Incident, question: Question, deadline_s: float, calls: list[Call]
    ) -> tuple[Judged, list[Picture], _Server]:
        room = (round(self._limits.request_mb * 1e6) - 20_000) * 3 // 4
        pictures = chosen_pictures(self._media_dir, incident, question, self._limits.frames, room)
        if not pictures:
            raise _Failed(AnalysisStatus.SKIPPED, "no_pictures")
        prompt = judging(incident, question, tuple(one.frame for one in pictures), self._limits.hints)
        failed = _Failed(AnalysisStatus.SKIPPED, "circuit_open")
        for number, server in enumerate(self._servers):
            now_s = time.monotonic()
            if not server.circuit.lets_through(now_s):
                continue
            others = len(self._servers) - number - 1
            until_s = deadline_s - (deadline_s - now_s) / 2 if others else deadline_s
            try:
                text = self._call(server, prompt, pictures, until_s, calls, question.role)
                answer = self._understood(server, prompt, pictures, until_s, calls, question, text)
            except _Failed as error:
                failed = error
                refused = error.status is AnalysisStatus.REFUSED
                server.circuit.went(well=refused, now_s=time.monotonic())
                log.warning("vlm_failed", url=server.url, status=str(error.status), reason=error.why)
                continue
            server.circuit.went(well=True, now_s=time.monotonic())
            return answer, pictures, server
        raise failed

    def _understood(
        self,
        server: _Server,
        prompt: Prompt,
        pictures: list[Picture],
        until_s: float,
        calls: list[Call],
        question: Question,
        text: str,
    ) -> Judged:
        """What the server said; where it cannot be understood, it is told why, once."""
        try:
            return judged(text, question.types)
        except NotUnderstood as error:
            wrong = str(error)
        calls[-1] = msgspec.structs.replace(calls[-1], error=f"invalid: {wrong}")
        repair = (text[:OUTPUT_KEPT], f"That cannot be used: {wrong}. Answer with one JSON object of the schema only.")
        again = self._call(server, prompt, pictures, until_s, calls, f"{question.role}:repair", repair)
        try:
            return judged(again, question.types)
        except NotUnderstood as error:
            calls[-1] = msgspec.structs.replace(calls[-1], error=f"invalid: {error}")
            if not any("{" in one for one in (text, again)):
                raise _Failed(AnalysisStatus.REFUSED, "no_answer") from error
            raise _Failed(AnalysisStatus.INVALID, str(error)) from error

    def _describe(
        self,
        server: _Server,
        incident: Incident,
        answer: Judged,
        pictures: list[Picture],
        deadline_s: float,
        calls: list[Call],
    ) -> Described | None:
        """Words, if there is time; that there are none takes nothing from verdict and type."""
        if not self._limits.describe or deadline_s - time.monotonic() < DESCRIBE_LEAST_S:
            return None
        frames = tuple(one.frame for one in pictures)
        prompt = describing(incident, frames, answer.vlm_type, answer.verdict)
        try:
            return described(self._call(server, prompt, pictures, deadline_s, calls, "describe"))
        except (_Failed, NotUnderstood) as error:
            log.info("vlm_gave_no_description", url=server.url, reason=str(error))
            return None

    # ---- how it is asked

    def _call(
        self,
        server: _Server,
        prompt: Prompt,
        pictures: list[Picture],
        until_s: float,
        calls: list[Call],
        role: str,
        repair: tuple[str, str] | None = None,
    ) -> str:
        """The text that a server answers with, noted in `calls`; raises _Failed at `until_s` at the latest."""
        began = time.monotonic()
        output, error, tokens = "", "", 0
        try:
            output, tokens = self._wait(self._ask(server, prompt, pictures, until_s, repair), until_s)
            return output
        except _Failed as failed:
            output, error = failed.output, f"{failed.status}: {failed.why}"
            raise
        finally:
            calls.append(
                Call(
                    engine="openai",
                    model=self.model,
                    role=role,
                    prompt_sha256=prompt.sha256,
                    frames=tuple(one.sha256 for one in pictures),
                    output=output[:OUTPUT_KEPT],
                    ms=round(1000 * (time.monotonic() - began), 1),
                    error=error,
                    tokens=tokens,
                )
            )

    def _wait(self, work: Coroutine[Any, Any, T], until_s: float) -> T:
        if self._closed:
            work.close()
            raise _Failed(AnalysisStatus.UNREACHABLE, "stopping")

        async def limited() -> T:
            async with asyncio.timeout(max(0.0, until_s - time.monotonic())):
                return await work

        future = asyncio.run_coroutine_threadsafe(limited(), self._loop)
        try:
            return future.result(max(0.0, until_s - time.monotonic()) + 1.0)
        except (TimeoutError, FutureTimeout) as error:
            future.cancel()
            raise _Failed(AnalysisStatus.TIMEOUT, "no_answer_in_time") from error
        except _Failed:
            raise
        except Exception as error:
            raise _Failed(AnalysisStatus.UNREACHABLE, f"{type(error).__name__}: {error}") from error

    async def _ask(
        self,
        server: _Server,
        prompt: Prompt,
        pictures: list[Picture],
        until_s: float,
        repair: tuple[str, str] | None,
    ) -> tuple[str, int]:
        """Tries again while the server is busy, and asks in a simpler form where it does not know this one."""
        tried = 0
        shown = pictures
        while True:
            rung = server.rung
            try:
                return await self._post(server, _body(self.model, prompt, shown, RUNGS[rung], repair))
            except _Failed as failed:
                if failed.code in OTHER_FORM and rung + 1 < len(RUNGS):
                    server.rung = max(server.rung, rung + 1)
                    continue
                if failed.code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and len(shown) > 1:
                    shown = fewer(shown)
                    continue
                again = failed.code in BUSY or failed.code >= 500 or failed.code == -1
                wait_s = failed.retry_s or FIRST_WAIT_S * 2**tried * random.uniform(0.8, 1.2)
                if not again or tried >= self._limits.retries or time.monotonic() + wait_s > until_s - LEAST_S:
                    raise
                tried += 1
                await asyncio.sleep(wait_s)

    async def _post(self, server: _Server, body: bytes) -> tuple[str, int]:
        if self._client is None:
            self._client = httpx.AsyncClient(
                follow_redirects=False,
                trust_env=False,
                timeout=httpx.Timeout(None, connect=CONNECT_S),
                # each request resolves and connects by itself: a connection that is kept would skip the check
                limits=httpx.Limits(max_keepalive_connections=0),
            )
        parts = server.parts
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        try:
            addresses = await resolve(host, port, self._allowed, purpose="vlm", timeout_s=CONNECT_S)
        except AddressRefused as error:
            raise _Failed(AnalysisStatus.UNREACHABLE, str(error)) from error
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        failed = _Failed(AnalysisStatus.UNREACHABLE, f"{host} has no address")
        for address in addresses:
            request = pinned_request(self._client, parts, address, body, headers)
            try:
                response = await self._client.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failed = _Failed(AnalysisStatus.UNREACHABLE, f"cannot connect: {type(error).__name__}", code=-1)
                continue
            except httpx.HTTPError as error:
                raise _Failed(AnalysisStatus.UNREACHABLE, type(error).__name__, code=-1) from error
            try:
                return await self._read_answer(response)
            finally:
                await response.aclose()
        raise failed

    async def _read_answer(self, response: httpx.Response) -> tuple[str, int]:
        data = bytearray()
        try:
            async for part in response.aiter_bytes():
                data += part
                if len(data) > self._limits.reply_kb * 1000:
                    raise _Failed(AnalysisStatus.INVALID, "answer_too_large")
        except httpx.HTTPError as error:
            raise _Failed(AnalysisStatus.UNREACHABLE, type(error).__name__, code=-1) from error
        status = response.status_code
        if status != HTTPStatus.OK:
            wait = response.headers.get("retry-after", "")
            text = data.decode(errors="replace")
            raise _Failed(
                AnalysisStatus.UNREACHABLE,
                f"http_{status}",
                code=status,
                output=text,
                retry_s=float(wait) if wait.isdigit() else 0.0,
            )
        return _content(bytes(data))

    def close(self) -> None:
        """Ends what is under way; later questions fail at once."""
        if self._closed:
            return
        self._closed = True

        async def end() -> None:
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            if self._client:
                await self._client.aclose()

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(2.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(2.0)
        if not self._thread.is_alive():
            self._loop.close()


def create(config: Config) -> OpenAiAnalyzer:
    return OpenAiAnalyzer(config)


def _body(model: str, prompt: Prompt, pictures: list[Picture], rung: str, repair: tuple[str, str] | None) -> bytes:
    content: list[dict[str, Any]] = [{"type": "text", "text": prompt.user}]
    content += [{"type": "image_url", "image_url": {"url": _data_url(one.data)}} for one in pictures]
    schema = msgspec.json.encode(prompt.schema).decode()
    system = prompt.system if rung == "json_schema" else f"{prompt.system}\nSchema: {schema}"
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": system},
        {"role": "user", "content": content},
    ]
    if repair:
        messages += [{"role": "assistant", "content": repair[0]}, {"role": "user", "content": repair[1]}]
    body: dict[str, Any] = {"model": model, "messages": messages, "max_tokens": prompt.max_tokens, "temperature": 0}
    match rung:
        case "json_schema":
            form = {"name": prompt.name, "strict": True, "schema": prompt.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        case "dialect":
            body |= {"structured_outputs": {"json": prompt.schema}, "format": prompt.schema}
        case "json_object":
            body["response_format"] = {"type": "json_object"}
        case _:
            pass
    return msgspec.json.encode(body)


def _data_url(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _content(data: bytes) -> tuple[str, int]:
    """The text of the first choice, and the tokens that it took."""
    try:
        found = msgspec.json.decode(data)
        message = found["choices"][0]["message"]
        text = message.get("content") or ""
        if message.get("refusal") and not text:
            raise _Failed(AnalysisStatus.REFUSED, "refused", output=str(message["refusal"]))
        tokens = int((found.get("usage") or {}).get("completion_tokens") or 0)
    except (msgspec.DecodeError, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise _Failed(
            AnalysisStatus.INVALID, "no_chat_completion", output=data[:200].decode(errors="replace")
        ) from error
    if not isinstance(text, str):
        raise _Failed(AnalysisStatus.INVALID, "no_chat_completion")
    return text, tokens


def _read_key(config: Config) -> str:
    """The server's API key; "" where there is none. Raises ConfigError where others may read it."""
    named = Path(config.vlm.key_file).expanduser() if config.vlm.key_file else config.secrets_dir / "vlm.key"
    if not config.vlm.key_file and not named.exists():
        return ""
    try:
        if stat.S_IMODE(named.stat().st_mode) & 0o077:
            raise ConfigError(f"{named} may be read by others", f"chmod 600 {named}")
        return named.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the key of the VLM server from {named}: {error}") from error
