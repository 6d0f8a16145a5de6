"""`haetae camera`: finds, probes, adds, lists, turns, starts, stops and removes cameras."""

import argparse
import getpass
import json
import re
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import zmq
from rich.console import Console
from rich.table import Table

from core.cameras import CameraConfig, CameraPhase, CameraSettings, CameraStatus, Light, Transport, normality_id
from core.cameras.onvif import describe_device, discover, list_presets, onvif_url, turn_by_hand
from core.cameras.probe import probe
from core.cameras.urls import check_address, check_url, seal_url
from core.clock import local_text, time_zone, utc_iso
from core.config import Config, load_config
from core.db import make_engine, upgrade
from core.db.audit import write_audit
from core.db.cameras import add_camera, get_camera, list_cameras, remove_camera, set_enabled
from core.db.history import normality_versions, score_curve
from core.errors import ConfigError, HaetaeError, RequestTimeout
from core.events.backtest import backtest
from core.frames import ring_budget
from core.heartbeat import read_heartbeat
from core.ids import CameraId, NodeId, check_camera_id
from core.rest.cameras import NormalityOut
from core.security.secrets import SecretBox
from core.wire.messages import (
    ApplyCameras,
    ForgetState,
    GetCameras,
    GetState,
    InferenceReply,
    LearnedReply,
    ManagerReply,
    ManagerRequest,
    UseVersion,
)
from core.wire.rpc import RequestClient

__all__ = [
    "BY_LIGHT",
    "LIGHT_HELP",
    "add_parser",
    "ask_inference",
    "ask_manager",
    "configure",
    "parse_duration",
    "version_table",
]

URL_HELP = "rtsp://..., http://..., a video file, a folder, /dev/video0, or demo://plaza?seed=1; - reads it from stdin"
LIGHT_HELP = "of which of its states: night is what it learned by infra-red (day)"
BY_LIGHT = {Light.DAY: "days", Light.NIGHT: "infra-red nights"}
SILENT_S = 10.0
"""A process that gives no sign of life for so long is not asked."""
_UNITS = {"s": 1, "m": 60, "h": 3600}


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("camera", help="add, list, start, stop and remove cameras")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="add a camera and start it")
    add.add_argument("name", help="its name: a-z, 0-9, '_' and '-'")
    add.add_argument("url", help=URL_HELP)
    add.add_argument("--sub-url", metavar="URL", help="a smaller stream of it: analysed and shown instead")
    add.add_argument("--transport", choices=list(Transport), default=Transport.TCP, help="of RTP (tcp)")
    add.add_argument("--no-clips", action="store_true", help="keep no video of events")
    add.add_argument("--learn", default="10m", metavar="TIME", help="how long it learns, such as 90s, 10m, 1h (10m)")
    add.add_argument("--vad", default="motion_stats", metavar="TYPE", help="type of anomaly detection")
    add.add_argument("--no-autostart", action="store_true", help="do not start it with the machine, only by hand")
    add.add_argument("--no-start", action="store_true", help="only add it")
    add.set_defaults(run=_add)
    probe_it = actions.add_parser("probe", help="look what a camera sends, and say what to do about it")
    probe_it.add_argument("url", help=URL_HELP)
    probe_it.add_argument("--transport", choices=list(Transport), default=Transport.TCP, help="of RTP (tcp)")
    probe_it.add_argument("--jpeg", type=Path, metavar="FILE", help="write a picture of it there")
    probe_it.add_argument("--json", action="store_true", help="for programs")
    probe_it.set_defaults(run=_probe)
    find = actions.add_parser("discover", help="find ONVIF cameras on the network, or list the streams of one")
    find.add_argument("url", nargs="?", default="", help="its address or URL, with credentials; - reads it from stdin")
    find.add_argument("--wait", default="3s", metavar="TIME", help="how long answers are awaited (3s)")
    find.add_argument("--interface", default="", metavar="NAME", help="only on this network, such as eth1")
    find.add_argument("--json", action="store_true", help="for programs")
    find.set_defaults(run=_discover)
    turn = actions.add_parser("preset", help="turn a camera to one of its presets (ONVIF), or list them")
    turn.add_argument("name")
    turn.add_argument("preset", nargs="?", default="", help="its name or token")
    turn.set_defaults(run=_preset)
    try_it = actions.add_parser("backtest", help="which events there would have been with another threshold")
    try_it.add_argument("name")
    try_it.add_argument("--per-day", type=float, required=True, metavar="N", help="false events a day that may be")
    try_it.add_argument("--days", type=float, default=7.0, help="how far back (7)")
    try_it.add_argument("--json", action="store_true", help="for programs")
    try_it.set_defaults(run=_backtest)
    versions = actions.add_parser("versions", help="what a camera learned, version by version")
    versions.add_argument("name")
    versions.add_argument("--light", type=Light, choices=list(Light), help="only by day, or by infra-red (both)")
    versions.add_argument("--json", action="store_true", help="for programs")
    versions.set_defaults(run=_versions)
    back = actions.add_parser("rollback", help="judge by an earlier version of what a camera learned")
    back.add_argument("name")
    back.add_argument("version", nargs="?", type=int, help="which (the one before that in use)")
    back.add_argument("--light", type=Light, choices=list(Light), default=Light.DAY, help=LIGHT_HELP)
    back.set_defaults(run=_rollback)
    show = actions.add_parser("list", help="show all cameras, as wanted and as they are")
    show.add_argument("--json", action="store_true", help="for programs")
    show.set_defaults(run=_list)
    change: list[tuple[str, str, Callable[[argparse.Namespace], int]]] = [
        ("start", "let it run", _start),
        ("stop", "let it rest, until it is started again", _stop),
        ("remove", "forget it; its events stay", _remove),
    ]
    for name, text, function in change:
        action = actions.add_parser(name, help=text)
        action.add_argument("name")
        action.set_defaults(run=function)


def configure(args: argparse.Namespace) -> Config:
    """The configuration that the global options name, with its folders made."""
    config = load_config(args.config, **({"paths": {"data": args.data}} if args.data else {}))
    config.make_dirs()
    return config


def parse_duration(text: str) -> float:
    """Seconds of "90s", "10m", "1.5h" or "600"; raises ConfigError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if not found or float(found[1]) == 0:
        raise ConfigError(f"not a length of time: {text!r}", "write 90s, 10m or 1h")
    return float(found[1]) * _UNITS[found[2] or "s"]


def ask_manager(config: Config, request: ManagerRequest, timeout_s: float = 2.0) -> Any:
    """The manager's reply; None where it is not running."""
    with zmq.Context() as context:
        client = RequestClient(context, config.endpoint("manager"), ManagerReply)
        try:
            return client.call(request, timeout_s)
        except HaetaeError:
            return None
        finally:
            client.close()


def _engine(config: Config, *, writer: bool = False) -> Any:
    upgrade(config.database_url)
    return make_engine(config.database_url, writer=writer)


def _check_memory(config: Config, engine: Any, camera_id: CameraId) -> None:
    """Raises SegmentTooLarge where the frames of this camera have no room beside those of all that are to run."""
    wanted = {camera.camera_id for camera in list_cameras(engine) if camera.enabled}
    ring_budget(config.bus, config.run_dir, wanted | {camera_id}).check()


def _nudge(config: Config, done: str) -> int:
    running = ask_manager(config, ApplyCameras()) is not None
    print(done if running else f"{done} (takes effect when Haetae runs: haetae up)")
    return 0


def _told(url: str) -> str:
    """The URL, read from standard input where it is "-": what stands in a command, others on the machine can see."""
    return sys.stdin.readline().strip() if url == "-" else url


def _add(args: argparse.Namespace) -> int:
    config = configure(args)
    camera_id = check_camera_id(args.name)
    url = check_url(_told(args.url), from_api=False, config=config)
    sub = check_url(_told(args.sub_url), from_api=False, config=config) if args.sub_url else None
    box = SecretBox(config.secrets_dir) if url.secret or (sub and sub.secret) else None
    camera = CameraConfig(
        camera_id=camera_id,
        name=args.name,
        url=url.shown,
        sealed_url=seal_url(url, box) if box else "",
        sub_url=sub.shown if sub else "",
        sealed_sub_url=seal_url(sub, box) if box and sub else "",
        enabled=not args.no_start,
        autostart=not args.no_autostart,
        vad_type=args.vad,
        learn_s=parse_duration(args.learn),
        settings=CameraSettings(transport=Transport(args.transport), record=not args.no_clips),
    )
    engine = _engine(config, writer=True)
    if camera.enabled:
        _check_memory(config, engine, camera.camera_id)
    add_camera(engine, camera)
    engine.dispose()
    return _nudge(config, f"added {camera.camera_id}")


def _probe(args: argparse.Namespace) -> int:
    """Exit code 1 where there is no picture to be had."""
    config = configure(args)
    url = check_url(_told(args.url), from_api=False, config=config)
    found = probe(config, url, CameraSettings(transport=Transport(args.transport)))
    if args.jpeg and found.jpeg:
        args.jpeg.write_bytes(found.jpeg)
    if args.json:
        shown = msgspec.structs.replace(found, jpeg=b"")
        print(json.dumps({"url": url.shown, **msgspec.to_builtins(shown)}))
        return 0 if found.ok else 1
    print(f"{url.shown}: {found.says}")
    for line in found.advice:
        print(f"  {line}")
    return 0 if found.ok else 1


def _discover(args: argparse.Namespace) -> int:
    """Exit code 1 where nothing was found."""
    config = configure(args)
    if args.url:
        return _describe(args, config)
    found = discover(config, parse_duration(args.wait), args.interface)
    if args.json:
        print(json.dumps(msgspec.to_builtins(found)))
    elif found:
        table = Table("host", "name", "hardware", "location", "ask it", "why not")
        for one in found:
            table.add_row(one.host, one.name, one.hardware, one.location, one.url, one.says)
        Console().print(table)
        print("what one of them sends: haetae camera discover http://USER:PASSWORD@HOST")
    else:
        print("no ONVIF camera answered: look whether ONVIF is switched on in it, and it is in the same network")
    return 0 if found else 1


def _describe(args: argparse.Namespace, config: Config) -> int:
    url = onvif_url(_told(args.url))
    check_address(url, config)
    device = describe_device(config, url)
    if args.json:
        print(json.dumps(msgspec.to_builtins(device)))
        return 0
    print(f"{url.host}: {device.manufacturer} {device.model}, firmware {device.firmware}")
    table = Table("profile", "codec", "size", "frames/s", "stream", "snapshot")
    for one in device.streams:
        table.add_row(one.name, one.codec, f"{one.width}x{one.height}", f"{one.fps:g}", one.url, one.snapshot_url)
    Console().print(table)
    if device.presets:
        print("presets: " + ", ".join(one.name for one in device.presets))
    for line in device.advice:
        print(line)
    return 0


def _preset(args: argparse.Namespace) -> int:
    config = configure(args)
    engine = _engine(config)
    camera = get_camera(engine, check_camera_id(args.name))
    engine.dispose()
    if args.preset:
        print(f"turning to {turn_by_hand(config, camera, args.preset).name}")
        return 0
    for one in list_presets(config, camera):
        print(one.name if one.name == one.token else f"{one.name} ({one.token})")
    return 0


def _backtest(args: argparse.Namespace) -> int:
    """Exit code 1 where too few scores are kept to say anything."""
    config = configure(args)
    engine = _engine(config)
    camera = get_camera(engine, check_camera_id(args.name))
    now = datetime.now(UTC)
    since = utc_iso(now - timedelta(days=min(365.0, max(0.0, args.days))))
    curve = score_curve(engine, camera.camera_id, since, utc_iso(now))
    engine.dispose()
    found = backtest(curve, config.tracker, args.per_day)
    if args.json:
        events = [{"began_at": one.began_at, "ended_at": one.ended_at, "peak": one.peak_score} for one in found.events]
        told = {"promise": msgspec.to_builtins(found.promise), "before": found.before, "events": events}
        print(json.dumps(told))
        return 0 if found.promise.stage != "learning" else 1
    hours = found.promise.watched_s / 3600
    if found.promise.stage == "learning":
        print(f"{hours:.1f} h of scores are kept since {since}: too little, or too quiet, to say anything")
        return 1
    print(
        f"with threshold {found.promise.open_score:.2f} there would have been {len(found.events)} events "
        f"instead of {found.before} ({hours:.1f} h watched since {since})"
    )
    for one in found.events:
        print(f"  {one.began_at}  {one.end_s - one.begin_s:5.0f} s  {one.peak_score:.1f}")
    return 0


def ask_inference(config: Config, request: GetState | UseVersion | ForgetState) -> LearnedReply | None:
    """What inference says of a state; None where it is not running. Raises RemoteError where it refuses."""
    beat = read_heartbeat(config.run_dir, "inference")
    if beat is None or beat.age_s > SILENT_S:
        return None
    with zmq.Context() as context:
        client = RequestClient(context, config.endpoint("inference"), InferenceReply)
        try:
            return client.call(request, 10.0)
        except RequestTimeout:
            return None
        finally:
            client.close()


def _versions(args: argparse.Namespace) -> int:
    config = configure(args)
    engine = _engine(config)
    camera = get_camera(engine, check_camera_id(args.name))
    found = [one for one in normality_versions(engine, camera.camera_id) if args.light in {None, one.light}]
    engine.dispose()
    used = {light: ask_inference(config, _of(camera, light)) for light in sorted({one.light for one in found})}
    shown = [NormalityOut.of(one, used[one.light] if one.vad_type == camera.vad_type else None) for one in found]
    if args.json:
        print(msgspec.json.encode(shown).decode())
        return 0
    zone = time_zone(config.site.time_zone)
    Console().print(version_table(shown, lambda at: local_text(at, zone)) if shown else "it has learned nothing yet")
    if None in used.values():
        print("inference is not running here, so that nobody knows which is in use: haetae up")
    return 0


def _of(camera: CameraConfig, light: Light) -> GetState:
    return GetState(vad_type=camera.vad_type, normality_id=normality_id(camera.camera_id, light))


def version_table(shown: Sequence[NormalityOut], time_text: Callable[[str], str]) -> Table:
    """Versions of both lights, for people."""
    table = Table("light", "version", "type", "learned", "from", "why", "")
    for one in shown:
        mark = "in use" if one.in_use else "gone" if one.kept is False else ""
        learned = time_text(one.created_at), f"{one.learned_s:.0f} s", one.reason
        table.add_row(one.light, str(one.version), one.vad_type, *learned, mark)
    return table


def _rollback(args: argparse.Namespace) -> int:
    config = configure(args)
    engine = _engine(config, writer=True)
    camera = get_camera(engine, check_camera_id(args.name))
    asked = _of(camera, args.light)
    used = ask_inference(config, asked)
    if used is None:
        raise HaetaeError("inference is not running here", "haetae up starts it")
    version = args.version or max((one for one in used.versions if one < used.state_version), default=0)
    if version < 1:
        kept = ", ".join(map(str, used.versions)) or "none"
        raise ConfigError(f"{args.name} has no version before {used.state_version}", f"kept are: {kept}")
    wanted = UseVersion(vad_type=asked.vad_type, normality_id=asked.normality_id, version=version)
    reply = ask_inference(config, wanted)
    if reply is None:
        raise HaetaeError("inference did not answer", "ask again, or see its log")
    with engine.begin() as connection:
        write_audit(
            connection,
            at=utc_iso(datetime.now(UTC)),
            node_id=NodeId(config.node_id),
            actor=f"{getpass.getuser()} (command line)",
            action="camera.version_used",
            target=camera.camera_id,
            detail={"version": version, "light": args.light},
        )
    engine.dispose()
    version_text = f"version {reply.state_version} ({reply.learned_s:.0f} s of footage)"
    print(f"{args.name} judges {BY_LIGHT[args.light]} by {version_text} from now on")
    return 0


def _switch(args: argparse.Namespace, *, enabled: bool) -> int:
    config = configure(args)
    engine = _engine(config, writer=True)
    if enabled:
        _check_memory(config, engine, check_camera_id(args.name))
    set_enabled(engine, check_camera_id(args.name), enabled=enabled)
    engine.dispose()
    return _nudge(config, f"{'starting' if enabled else 'stopping'} {args.name}")


def _start(args: argparse.Namespace) -> int:
    return _switch(args, enabled=True)


def _stop(args: argparse.Namespace) -> int:
    return _switch(args, enabled=False)


def _remove(args: argparse.Namespace) -> int:
    config = configure(args)
    engine = _engine(config, writer=True)
    camera_id = check_camera_id(args.name)
    get_camera(engine, camera_id)
    remove_camera(engine, camera_id)
    engine.dispose()
    return _nudge(config, f"removed {args.name}")


def _list(args: argparse.Namespace) -> int:
    config = configure(args)
    engine = _engine(config)
    cameras = list_cameras(engine)
    engine.dispose()
    reply = ask_manager(config, GetCameras())
    known = {status.camera_id: status for status in reply.cameras} if reply else {}
    statuses = [known.get(camera.camera_id) or _unobserved(camera) for camera in cameras]
    if args.json:
        rows = [
            {**msgspec.to_builtins(status), "url": camera.url, "vad_type": camera.vad_type}
            for camera, status in zip(cameras, statuses, strict=True)
        ]
        print(json.dumps({"manager": reply is not None, "cameras": rows}))
        return 0
    table = Table("camera", "wanted", "is", "frames", "restarts", "source", "why")
    for camera, status in zip(cameras, statuses, strict=True):
        table.add_row(
            camera.camera_id,
            status.desired,
            status.phase if reply else "?",
            str(status.frames),
            str(status.restarts),
            camera.url,
            status.reason,
        )
    Console().print(table if cameras else "no cameras yet: haetae camera add NAME URL")
    if reply is None and cameras:
        print("Haetae is not running here: haetae up")
    return 0


def _unobserved(camera: CameraConfig) -> CameraStatus:
    return CameraStatus(
        camera_id=camera.camera_id,
        desired="running" if camera.enabled else "stopped",
        phase=CameraPhase.STOPPED,
    )
