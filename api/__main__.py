"""The api process: serves the REST API until SIGTERM."""

import asyncio
import ipaddress
import signal
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager

import structlog
import uvicorn
import uvloop

from api.app import create_app
from api.auth.service import set_up_token
from api.services import Services
from api.stream.outlet import Outlet
from core.clock import SystemClock
from core.config import ApiConfig, Config
from core.db import upgrade
from core.errors import ConfigError, HaetaeError
from core.heartbeat import Heartbeat
from core.metrics import MetricsFile
from core.process import fail, parse_role_args
from core.wire.messages import InferenceReply, LoggerReply, ManagerReply

__all__ = ["main", "open_socket"]

log = structlog.get_logger()

PEERS = {"manager": ManagerReply, "inference": InferenceReply, "logger": LoggerReply}
BEAT_S = 0.5
GRACE_S = 5
"""Requests that are still being answered at the end get so long."""


def open_socket(config: ApiConfig) -> socket.socket:
    """Listens where the configuration says; raises ConfigError where that is refused, or not safe."""
    try:
        address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise ConfigError(f"api.host: {config.host} is no address of this machine") from error
    loopback = ipaddress.ip_address(address[4][0]).is_loopback
    if not loopback and not config.secure and not config.plain_http and not config.trusted_proxies:
        raise ConfigError(
            f"passwords would cross the network in the clear on {config.host}",
            "set api.tls_certificate and api.tls_key, put a reverse proxy in front, or say api.plain_http = true",
        )
    if bool(config.tls_certificate) != bool(config.tls_key):
        raise ConfigError("api.tls_certificate and api.tls_key belong together")
    # Of TCP by name: only then does asyncio send at once what else would wait 40 ms for an acknowledgement.
    listener = socket.socket(address[0], socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address[4])
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {config.host} port {config.port}: {error.strerror}", "choose another with api.port"
        ) from error
    return listener


class _Server(uvicorn.Server):
    """Signals end it, and are not raised again afterwards: an end that was asked for is a clean one."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        yield


def _server(services: Services, config: ApiConfig) -> uvicorn.Server:
    settings = uvicorn.Config(
        create_app(services),
        http="h11",
        ws=Outlet,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(config.trusted_proxies),
        forwarded_allow_ips=list(config.trusted_proxies),
        ssl_certfile=config.tls_certificate or None,
        ssl_keyfile=config.tls_key or None,
        timeout_graceful_shutdown=GRACE_S,
        limit_concurrency=1000,
        ws_max_size=64 * 1024,
        ws_per_message_deflate=False,
    )
    settings.load()
    return _Server(settings)


async def _serve(services: Services, server: uvicorn.Server, listener: socket.socket) -> None:
    heartbeat = Heartbeat(services.config.run_dir, "api")
    metrics = MetricsFile(services.config.run_dir, "api")

    async def beat() -> None:
        while not server.should_exit:
            heartbeat.beat("running", server.server_state.total_requests)
            if metrics.due:
                metrics.write(services.samples())
            await asyncio.sleep(BEAT_S)
        for end in services.ending:
            end()

    beating = asyncio.create_task(beat())
    try:
        await server.serve([listener])
    finally:
        beating.cancel()
        metrics.close()
        heartbeat.close()


def _prepare(config: Config) -> tuple[Services, uvicorn.Server, socket.socket]:
    upgrade(config.database_url)
    services = Services(config, SystemClock(), PEERS)
    listener = open_socket(config.api)
    try:
        server = _server(services, config.api)
    except OSError as error:
        raise ConfigError(f"the TLS certificate or its key cannot be used: {error}") from error
    return services, server, listener


def main(argv: list[str] | None = None) -> int:
    """Runs until SIGTERM; what is being answered then is answered first."""
    _, config = parse_role_args("api", argv)
    try:
        services, server, listener = _prepare(config)
    except HaetaeError as error:
        return fail(error)
    scheme = "https" if config.api.secure else "http"
    url = f"{scheme}://{config.api.host}:{listener.getsockname()[1]}"
    (config.run_dir / "api.url").write_text(url)
    if set_up_token(services):
        log.info("first_account_wanted", file=str(config.secrets_dir / "setup.token"))
    log.info("api_ready", url=url)
    uvloop.run(_serve(services, server, listener))
    log.info("api_stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
