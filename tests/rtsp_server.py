"""A real RTSP camera for tests, on GStreamer: run with the system's Python, told what to do line by line.

`rtsp_server.py PORT '{"codec": "h264", "width": 320, "height": 240, "user": "", "password": "", "drop": 0.0}'` prints
"ready PORT" (PORT 0 takes any), then takes `size W H`, `stall` and `go` on standard input; ends with it.
With "cert" and "key", files, it speaks TLS.
"""

import json
import sys
import threading

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gio, GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

ENCODERS = {
    "h264": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 bitrate=300 "
    "! video/x-h264,profile=baseline ! rtph264pay config-interval=-1 pt=96",
    "h265": "x265enc tune=zerolatency speed-preset=ultrafast key-int-max=10 bitrate=300 "
    "! rtph265pay config-interval=-1 pt=96",
}


class Camera(GstRtspServer.RTSPMediaFactory):
    """One pipeline for all clients."""

    def __init__(self, asked):
        super().__init__()
        self.set_shared(True)
        self._asked = asked
        self._stalled = False
        self._elements = None
        size = f"video/x-raw,format=I420,width={asked['width']},height={asked['height']},framerate=10/1"
        self.set_launch(
            f"( videotestsrc is-live=true pattern=ball ! videoscale ! capsfilter name=size caps={size} "
            f"! {ENCODERS[asked['codec']]} ! identity name=pay0 drop-probability={asked['drop']} )"
        )

    def do_configure(self, media):
        GstRtspServer.RTSPMediaFactory.do_configure(self, media)
        self._elements = media.get_element()
        pad = self._elements.get_by_name("pay0").get_static_pad("src")
        pad.add_probe(Gst.PadProbeType.BUFFER | Gst.PadProbeType.BUFFER_LIST, self._probe)

    def _probe(self, _pad, _info):
        return Gst.PadProbeReturn.DROP if self._stalled else Gst.PadProbeReturn.OK

    def obey(self, line):
        words = line.split()
        if words[0] == "size" and self._elements:
            caps = f"video/x-raw,format=I420,width={words[1]},height={words[2]},framerate=10/1"
            self._elements.get_by_name("size").set_property("caps", Gst.Caps.from_string(caps))
        self._stalled = words[0] == "stall"


def main():
    Gst.init(None)
    asked = {"codec": "h264", "width": 320, "height": 240, "user": "", "password": "", "drop": 0.0}
    asked.update(json.loads(sys.argv[2]))
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(sys.argv[1])
    factory = Camera(asked)
    if asked["user"]:
        auth = GstRtspServer.RTSPAuth()
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "user")
        if asked.get("digest"):
            auth.add_digest(asked["user"], asked["password"], token)
            auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        else:
            auth.add_basic(GstRtspServer.RTSPAuth.make_basic(asked["user"], asked["password"]), token)
        server.set_auth(auth)
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_permission_for_role("user", "media.factory.access", True)
        permissions.add_permission_for_role("user", "media.factory.construct", True)
        factory.set_permissions(permissions)
    if asked.get("cert"):
        auth = GstRtspServer.RTSPAuth()
        auth.set_tls_certificate(Gio.TlsCertificate.new_from_files(asked["cert"], asked["key"]))
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "anonymous")
        auth.set_default_token(token)
        server.set_auth(auth)
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_permission_for_role("anonymous", "media.factory.access", True)
        permissions.add_permission_for_role("anonymous", "media.factory.construct", True)
        factory.set_permissions(permissions)
    server.get_mount_points().add_factory("/cam", factory)
    loop = GLib.MainLoop()
    if not server.attach(None):
        sys.exit("cannot listen")

    def listen():
        for line in sys.stdin:
            if line.strip():
                GLib.idle_add(factory.obey, line)
        GLib.idle_add(loop.quit)

    threading.Thread(target=listen, daemon=True).start()
    print("ready", server.get_bound_port(), flush=True)
    loop.run()


main()
