"""Request and reply: each request one reply, garbage harms nothing, no wait is for ever."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest
import zmq

from core.config import Config
from core.errors import RemoteError, RequestTimeout, WireError
from core.wire.feeds import FeedPublisher, FeedSubscriber
from core.wire.messages import (
    ApplyCameras,
    CameraStatuses,
    Done,
    ErrorReply,
    GetCameras,
    ManagerReply,
    ManagerRequest,
    Ping,
    Pong,
)
from core.wire.rpc import RequestClient, RequestServer, serve


class Answering:
    """A server in a thread that answers Ping, fails on ApplyCameras and is silent on GetCameras."""

    def __init__(self, context: zmq.Context, endpoint: str) -> None:
        self.stop = threading.Event()
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(context, endpoint))
        self.thread.start()
        assert self.ready.wait(60)

    def _run(self, context: zmq.Context, endpoint: str) -> None:
        self.server = RequestServer(context, endpoint, ManagerRequest)
        self.ready.set()

        def handle(request: object) -> Pong | Done:
            if isinstance(request, ApplyCameras):
                raise KeyError("gate")
            return Pong(pid=1, instance="a")

        serve(self.server, handle, self.stop.is_set, period_s=0.02)
        self.server.close()

    def close(self) -> None:
        self.stop.set()
        self.thread.join(60)


@pytest.fixture
def context() -> Iterator[zmq.Context]:
    with zmq.Context() as made:
        yield made


@pytest.fixture
def answering(context: zmq.Context, config: Config) -> Iterator[Answering]:
    made = Answering(context, config.endpoint("manager"))
    yield made
    made.close()


def make_client(context: zmq.Context, config: Config) -> RequestClient:
    return RequestClient(context, config.endpoint("manager"), ManagerReply)


def test_a_request_gets_its_reply(context, config, answering):
    client = make_client(context, config)
    assert client.call(Ping(), 60.0) == Pong(pid=1, instance="a")
    client.close()


def test_a_handler_that_raises_answers_with_an_error_and_lives_on(context, config, answering):
    client = make_client(context, config)
    with pytest.raises(RemoteError, match="KeyError") as caught:
        client.call(ApplyCameras(), 60.0)
    assert caught.value.code == "internal"
    assert client.call(Ping(), 60.0) == Pong(pid=1, instance="a")
    client.close()


def test_garbage_is_counted_and_dropped(context, config, answering):
    client = make_client(context, config)
    for parts in ([b""], [b"\xff\x00garbage"], [b"a", b"b", b"c"], [b"\xc1", b""]):
        client.socket.send_multipart(parts)
    assert client.call(Ping(), 60.0) == Pong(pid=1, instance="a")
    assert answering.server.statistics().malformed == 4
    client.close()


def test_an_unknown_message_with_a_readable_id_is_answered(context, config, answering):
    stranger = RequestClient(context, config.endpoint("manager"), CameraStatuses | Pong | ErrorReply)
    with pytest.raises(RemoteError) as caught:
        stranger.call(Pong(pid=1, instance="not a request"))
    assert caught.value.code == "bad_request"
    stranger.close()


def test_nobody_there_is_a_timeout_not_a_hang(context, config):
    client = make_client(context, config)
    begun = time.monotonic()
    with pytest.raises(RequestTimeout):
        client.call(GetCameras(), timeout_s=0.2)
    assert time.monotonic() - begun < 30
    assert client.waiting == 0
    client.close()


def test_a_request_survives_a_server_that_starts_later(context, config):
    client = make_client(context, config)
    client.send(Ping(), timeout_s=60)
    late = Answering(context, config.endpoint("manager"))
    [(_, reply)] = client.receive(60)
    assert reply == Pong(pid=1, instance="a")
    client.close()
    late.close()


def test_a_second_server_on_the_same_address_is_refused(context, config, answering):
    with pytest.raises(WireError, match="in use"):
        RequestServer(context, config.endpoint("manager"), ManagerRequest)


def test_an_address_left_by_a_dead_server_is_taken_over(context, config):
    with socket.socket(socket.AF_UNIX) as left:  # closing it leaves its file, as a killed process does
        left.bind(config.endpoint("manager").removeprefix("ipc://"))
    second = RequestServer(context, config.endpoint("manager"), ManagerRequest)
    second.close()


def test_a_feed_tells_topic_sequence_and_message(context, config):
    publisher = FeedPublisher(context, config.endpoint("feed"))
    subscriber = FeedSubscriber(context, config.endpoint("feed"), Pong, topics=["gate"])
    assert publisher.socket.poll(60_000)  # the subscription has arrived
    publisher.publish("yard", Pong(pid=1, instance="x"), 1)
    publisher.publish("gate", Pong(pid=2, instance="y"), 2)
    assert subscriber.receive(60) == [("gate", 2, Pong(pid=2, instance="y"))]
    subscriber.close()
    publisher.close()
