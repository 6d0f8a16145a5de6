"""An ONVIF camera for tests: SOAP over HTTP on loopback, with WS-Security, and WS-Discovery by multicast."""

import base64
import contextlib
import hashlib
import re
import socket
import struct
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["OnvifCamera"]

ENVELOPE = (
    '<?xml version="1.0"?><s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"'
    ' xmlns:tt="http://www.onvif.org/ver10/schema" xmlns:tds="http://www.onvif.org/ver10/device/wsdl"'
    ' xmlns:trt="http://www.onvif.org/ver10/media/wsdl" xmlns:tptz="http://www.onvif.org/ver20/ptz/wsdl"'
    ' xmlns:ter="http://www.onvif.org/ver10/error"><s:Body>{}</s:Body></s:Envelope>'
)
DENIED = (
    "<s:Fault><s:Code><s:Value>s:Sender</s:Value><s:Subcode><s:Value>ter:NotAuthorized</s:Value></s:Subcode></s:Code>"
    '<s:Reason><s:Text xml:lang="en">Sender not Authorized</s:Text></s:Reason></s:Fault>'
)
PROFILES = (("main", "H264", 1920, 1080, 25), ("sub", "H264", 640, 360, 10), ("tiny", "JPEG", 320, 180, 5))


class OnvifCamera(contextlib.AbstractContextManager["OnvifCamera"]):
    """Answers until its `with` block ends; its clock is `ahead_s` before ours, as the clocks of cameras are.

    `elsewhere` is the host that it names in its answers; None is its own.
    """

    def __init__(
        self,
        user: str = "",
        password: str = "",
        *,
        ptz: bool = True,
        ahead_s: float = 0.0,
        elsewhere: str | None = None,
    ) -> None:
        self.user, self.password, self.ptz, self._ahead = user, password, ptz, timedelta(seconds=ahead_s)
        self.id, self.turned, self.asked = f"urn:uuid:{uuid.uuid4()}", [], []
        self.says: Callable[[str], str | None] = lambda _operation: None
        """What it answers to an operation in the place of the truth."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                text = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
                status, body = outer._soap(text)
                self.send_response(status)
                if status == 307:
                    self.send_header("Location", body)
                self.send_header("Content-Type", "application/soap+xml; charset=utf-8")
                self.send_header("Content-Length", str(len(body.encode())))
                self.end_headers()
                with contextlib.suppress(BrokenPipeError):
                    self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.host = elsewhere or f"127.0.0.1:{self.port}"
        self.url = f"http://127.0.0.1:{self.port}/onvif/device_service"
        self._threads = [threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})]
        self._group: socket.socket | None = None
        self._threads[0].start()

    # ---- discovery

    def join(self, interface: str = "lo", places: str = "") -> None:
        """Answers probes on a network from now on, naming `places` as its addresses."""
        group = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        group.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        group.bind(("239.255.255.250", 3702))
        index = socket.if_nametoindex(interface)
        member = struct.pack("4s4si", socket.inet_aton("239.255.255.250"), bytes(4), index)
        group.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        group.settimeout(0.05)
        self._group, self._closing = group, threading.Event()
        self._threads.append(threading.Thread(target=self._listen, args=(places or self.url,)))
        self._threads[-1].start()

    def _listen(self, places: str) -> None:
        assert self._group
        while not self._closing.is_set():
            try:
                data, sender = self._group.recvfrom(65535)
            except TimeoutError:
                continue
            text = data.decode(errors="replace")
            if "Probe" in text and "NetworkVideoTransmitter" in text:
                self._group.sendto(b"<not xml", sender)  # whatever else there is on a network
                self._group.sendto(self._match(text, places).encode(), sender)

    def _match(self, probe: str, places: str) -> str:
        asked = re.search(r"MessageID>([^<]+)<", probe)
        assert asked
        scopes = " ".join(
            f"onvif://www.onvif.org/{one}"
            for one in ("type/video_encoder", "name/Gate%20camera", "hardware/HT-100", "location/yard", "name/second")
        )
        return f"""<?xml version="1.0" encoding="UTF-8"?>
<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"
 xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" xmlns:d="http://schemas.xmlsoap.org/ws/2005/04/discovery"
 xmlns:dn="http://www.onvif.org/ver10/network/wsdl"><s:Header><a:MessageID>urn:uuid:{uuid.uuid4()}</a:MessageID>
<a:RelatesTo>{asked[1]}</a:RelatesTo><a:Action>http://schemas.xmlsoap.org/ws/2005/04/discovery/ProbeMatches</a:Action>
</s:Header><s:Body><d:ProbeMatches><d:ProbeMatch><a:EndpointReference><a:Address>{self.id}</a:Address>
</a:EndpointReference><d:Types>dn:NetworkVideoTransmitter</d:Types><d:Scopes>{scopes}</d:Scopes>
<d:XAddrs>{places}</d:XAddrs><d:MetadataVersion>1</d:MetadataVersion></d:ProbeMatch></d:ProbeMatches></s:Body>
</s:Envelope>"""

    # ---- SOAP

    def _soap(self, text: str) -> tuple[int, str]:
        found = re.search(r"<(?:[\w-]+:)?Body[^>]*>\s*<(?:[\w-]+:)?(\w+)", text)
        operation = found[1] if found else ""
        self.asked.append(operation)
        if (said := self.says(operation)) is not None:
            return (307, said) if said.startswith("http") else (200, said)
        if operation != "GetSystemDateAndTime" and self.user and not self._knows(text):
            return 400, ENVELOPE.format(DENIED)
        body = getattr(self, f"_{operation}", lambda _text: None)(text)
        return (200, ENVELOPE.format(body)) if body else (400, ENVELOPE.format(DENIED.replace("NotAuthorized", "None")))

    def _knows(self, text: str) -> bool:
        """WS-Security UsernameToken, digest: base64(sha1(nonce + created + password)), at most 60 s off our clock."""

        def told(name: str) -> str:
            found = re.search(rf"<(?:[\w-]+:)?{name}(?:\s[^>]*)?>([^<]*)<", text)
            return found[1] if found else ""

        created = told("Created")
        secret = base64.b64decode(told("Nonce")) + created.encode() + self.password.encode()
        digest = base64.b64encode(hashlib.sha1(secret).digest()).decode()
        if told("Username") != self.user or told("Password") != digest:
            return False
        when = datetime.fromisoformat(created)
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        return abs(datetime.now(UTC) + self._ahead - when) < timedelta(seconds=60)

    def _GetSystemDateAndTime(self, _text: str) -> str:
        now = datetime.now(UTC) + self._ahead
        return (
            "<tds:GetSystemDateAndTimeResponse><tds:SystemDateAndTime><tt:DateTimeType>NTP</tt:DateTimeType>"
            "<tt:DaylightSavings>false</tt:DaylightSavings><tt:UTCDateTime>"
            f"<tt:Time><tt:Hour>{now.hour}</tt:Hour><tt:Minute>{now.minute}</tt:Minute>"
            f"<tt:Second>{now.second}</tt:Second></tt:Time>"
            f"<tt:Date><tt:Year>{now.year}</tt:Year><tt:Month>{now.month}</tt:Month><tt:Day>{now.day}</tt:Day></tt:Date>"
            "</tt:UTCDateTime></tds:SystemDateAndTime></tds:GetSystemDateAndTimeResponse>"
        )

    def _GetServices(self, _text: str) -> str:
        services = {"ver10/device": "device_service", "ver10/media": "media"}
        services |= {"ver20/ptz": "ptz"} if self.ptz else {}
        told = "".join(
            f"<tds:Service><tds:Namespace>http://www.onvif.org/{name}/wsdl</tds:Namespace>"
            f"<tds:XAddr>http://{self.host}/onvif/{path}</tds:XAddr>"
            "<tds:Version><tt:Major>2</tt:Major><tt:Minor>6</tt:Minor></tds:Version></tds:Service>"
            for name, path in services.items()
        )
        return f"<tds:GetServicesResponse>{told}</tds:GetServicesResponse>"

    def _GetDeviceInformation(self, _text: str) -> str:
        return (
            "<tds:GetDeviceInformationResponse><tds:Manufacturer>Haechi</tds:Manufacturer><tds:Model>HT-100</tds:Model>"
            "<tds:FirmwareVersion>1.2</tds:FirmwareVersion><tds:SerialNumber>7</tds:SerialNumber>"
            "<tds:HardwareId>1</tds:HardwareId></tds:GetDeviceInformationResponse>"
        )

    def _GetProfiles(self, _text: str) -> str:
        turning = (
            '<tt:PTZConfiguration token="p"><tt:Name>p</tt:Name><tt:UseCount>1</tt:UseCount>'
            "<tt:NodeToken>n</tt:NodeToken></tt:PTZConfiguration>"
        )
        told = "".join(
            f'<trt:Profiles token="{name}" fixed="true"><tt:Name>{name}</tt:Name>'
            f'<tt:VideoEncoderConfiguration token="e{name}"><tt:Name>e</tt:Name><tt:UseCount>1</tt:UseCount>'
            f"<tt:Encoding>{codec}</tt:Encoding><tt:Resolution><tt:Width>{width}</tt:Width>"
            f"<tt:Height>{height}</tt:Height></tt:Resolution><tt:Quality>5</tt:Quality><tt:RateControl>"
            f"<tt:FrameRateLimit>{fps}</tt:FrameRateLimit><tt:EncodingInterval>1</tt:EncodingInterval>"
            "<tt:BitrateLimit>2048</tt:BitrateLimit></tt:RateControl></tt:VideoEncoderConfiguration>"
            f"{turning if self.ptz and name == 'main' else ''}</trt:Profiles>"
            for name, codec, width, height, fps in reversed(PROFILES)
        )
        return f"<trt:GetProfilesResponse>{told}</trt:GetProfilesResponse>"

    def _uri(self, text: str, response: str, scheme: str) -> str:
        found = re.search(r"ProfileToken>([^<]+)<", text)
        assert found
        host = self.host.partition(":")[0]
        place = {
            "rtsp": f"rtsp://{self.user}:{self.password}@{host}:554/{found[1]}",
            "http": f"http://{self.host}/{found[1]}.jpg?user={self.user}&amp;pwd={self.password}",
        }[scheme]
        return (
            f"<trt:{response}><trt:MediaUri><tt:Uri>{place}</tt:Uri><tt:InvalidAfterConnect>false"
            "</tt:InvalidAfterConnect><tt:InvalidAfterReboot>false</tt:InvalidAfterReboot><tt:Timeout>PT0S</tt:Timeout>"
            f"</trt:MediaUri></trt:{response}>"
        )

    def _GetStreamUri(self, text: str) -> str:
        return self._uri(text, "GetStreamUriResponse", "rtsp")

    def _GetSnapshotUri(self, text: str) -> str:
        return self._uri(text, "GetSnapshotUriResponse", "http")

    def _GetPresets(self, _text: str) -> str:
        told = "".join(
            f'<tptz:Preset token="{token}"><tt:Name>{name}</tt:Name></tptz:Preset>'
            for token, name in (("1", "gate"), ("2", "주차장"), ("3", ""))
        )
        return f"<tptz:GetPresetsResponse>{told}</tptz:GetPresetsResponse>"

    def _GotoPreset(self, text: str) -> str:
        found = re.search(r"PresetToken>([^<]+)<", text)
        assert found
        self.turned.append(found[1])
        return "<tptz:GotoPresetResponse/>"

    def __exit__(self, *_exc: object) -> None:
        if self._group:
            self._closing.set()
        self._server.shutdown()
        for thread in self._threads:
            thread.join()
        self._server.server_close()
        if self._group:
            self._group.close()
