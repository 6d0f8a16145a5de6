"""The configuration: one tree of structs, read from haetae.toml and HAETAE_... variables.

`HAETAE_TRACKER__OPEN_SCORE=2.5` overrides `open_score` of `[tracker]`. Unknown keys are refused with the
nearest one that exists.
"""

import difflib
import hashlib
import os
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_origin

import msgspec
from msgspec import Meta

from core.cameras.model import Fault
from core.errors import ConfigError
from core.events.model import Severity
from core.security.networks import AllowedNetworks

__all__ = [
    "ApiConfig",
    "BackupConfig",
    "BusConfig",
    "CamerasConfig",
    "Config",
    "InferenceConfig",
    "LogConfig",
    "LoggerConfig",
    "ManagerConfig",
    "NetworksConfig",
    "NotifierConfig",
    "PathsConfig",
    "RetentionConfig",
    "SightConfig",
    "SiteConfig",
    "TrackerConfig",
    "VadConfig",
    "VlmConfig",
    "WatchdogConfig",
    "load_config",
]

ENV_PREFIX = "HAETAE_"
_NOT_KEYS = {"HAETAE_API_KEY", "HAETAE_CONFIG", "HAETAE_DATA", "HAETAE_PYTHON", "HAETAE_URL"}
"""Variables of the prefix that are no configuration: its file, the tests' videos, supervisord's interpreter."""


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]


class PathsConfig(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where things are kept; "" stands for the default beside `data`."""

    data: str = "var"
    """Database, journal, states, media and logs; relative to the working directory."""
    run: str = ""
    """Sockets, registries and heartbeats: a private directory with a short path (Unix sockets: 107 bytes)."""


class DatabaseConfig(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: str = ""
    """SQLAlchemy URL; "" is SQLite in the data folder."""


class BusConfig(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The frame rings; a slot is one frame."""

    main_slots: Annotated[int, Meta(ge=3, le=64)] = 6
    analysis_slots: Annotated[int, Meta(ge=3, le=64)] = 8
    analysis_width: Annotated[int, Meta(ge=64, le=1920)] = 640
    """Largest analysed width in pixels; a source is never scaled up, and keeps its shape."""
    analysis_height: Annotated[int, Meta(ge=64, le=1080)] = 360
    shm_share: Annotated[float, Meta(gt=0, le=1)] = 0.9
    """Share of what is free in /dev/shm that rings may take."""


class InferenceConfig(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    max_batch: Annotated[int, Meta(ge=1, le=256)] = 16
    batch_limit_s: Positive = 0.05
    """What a batch should take at most, where smaller ones cost no throughput: a frame that comes meanwhile waits."""
    ageing_s: Positive = 0.5
    """A request that has waited for so long moves up a priority."""
    isolate_s: Positive = 10.0
    """A camera whose frame made a whole batch fail is scored alone for so long."""
    hung_s: Positive = 30.0
    """A batch that takes longer counts as hung: the process gives no more sign of life."""
    threads: Annotated[int, Meta(ge=0, le=256)] = 0
    """Worker threads of CPU models; 0 is one per core."""
    request_timeout_s: Positive = 5.0
    weights: dict[str, str] = {}
    """Files of weights by type of detection, for types that can use one: safetensors for `patch_memory`, an ONNX
    detector for `object_attr`."""
    flow: Literal["opencv", "cuda"] = "opencv"
    """Where optical flow is found: on the CPU, or on a CUDA device for all frames of a batch at once."""


class VlmConfig(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who looks at the key frames of an event and says what it is. Read again while inference runs."""

    backend: Literal["rules", "openai", "transformers"] = "rules"
    """`rules` says what was measured; `openai` asks a server that speaks its protocol, `transformers` a model in a
    local folder; both fall back on `rules`."""
    url: Annotated[str, Meta(pattern=r"^(https?://[^\s?#@]*[^\s?#@/])?$")] = ""
    """Of the server, up to /v1, such as http://127.0.0.1:8000/v1; its address obeys networks.vlm."""
    fallback_url: Annotated[str, Meta(pattern=r"^(https?://[^\s?#@]*[^\s?#@/])?$")] = ""
    """Another server of the same kind, asked where the first one fails."""
    model: Annotated[str, Meta(max_length=200)] = ""
    """The model's name there."""
    folder: str = ""
    """Of `transformers`: a folder with config.json, the processor's files and *.safetensors."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Of `transformers`: where it runs; "auto" is CUDA where there is some."""
    batch: Annotated[int, Meta(ge=1, le=16)] = 4
    """Of `transformers`: questions that go through the model together at most."""
    threads: Annotated[int, Meta(ge=0, le=256)] = 0
    """Of `transformers`: processor threads that it computes with; 0 is half of the cores."""
    key_file: str = ""
    """A file, readable by its owner alone, that holds the server's API key; "" is vlm.key among the secrets, if any."""
    nice: Annotated[int, Meta(ge=0, le=19)] = 10
    """How far the process that asks a model stands back for others (nice); frames are scored first."""
    describe: bool = True
    """Ask for a description too, once verdict and type are there."""
    analyze_s: Annotated[float, Meta(gt=0, le=60)] = 8.0
    """Time for one analysis, retries included."""
    flow_s: Annotated[float, Meta(gt=0, le=120)] = 15.0
    """Time for a flow with all that it asks for."""
    hard_s: Annotated[float, Meta(gt=0, le=300)] = 30.0
    """After so long, waiting included, a camera describes its event by itself."""
    at_once: Annotated[int, Meta(ge=1, le=32)] = 4
    """Analyses that are under way at the same time; one of a camera at most."""
    waiting: Annotated[int, Meta(ge=1, le=1024)] = 64
    """Analyses that wait at most; what is more is decided by rules at once."""
    retries: Annotated[int, Meta(ge=0, le=5)] = 2
    """Of a server that is busy or broken, within the time for one analysis."""
    broken_after: Annotated[int, Meta(ge=1, le=100)] = 5
    """So many failures in a row, and a server is not asked for `rest_s`."""
    rest_s: Annotated[float, Meta(gt=0, le=3600)] = 30.0
    frames: Annotated[int, Meta(ge=1, le=8)] = 6
    """Key frames that are shown to a model at most."""
    request_mb: Annotated[float, Meta(gt=0, le=64)] = 4.0
    """Largest request, 10^6 bytes: of more, key frames are left out."""
    reply_kb: Annotated[int, Meta(ge=4, le=4096)] = 64
    """Largest answer, 10^3 bytes."""
    hints: dict[str, Annotated[str, Meta(max_length=500)]] = {}
    """By type: what to look for, said to a model in addition."""


class FlowsConfig(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What agent flows may do by themselves. Read again while inference runs."""

    channels: tuple[str, ...] = ()
    """Names of channels that flows may notify; none by default: rules do it."""
    notify_from: Severity = Severity.HIGH
    """Severity from which a flow notifies."""
    escalate: Annotated[int, Meta(ge=0, le=3)] = 0
    """Highest level to which a flow may escalate; 0 never."""
    ignore: bool = False
    """A flow that may notify holds its own message back where a model rejects an event and measurements agree."""
    recheck: bool = True
    """Ask once more, with newer pictures, where a flow is not sure."""
    per_hour: Annotated[int, Meta(ge=0, le=1000)] = 12
    """Messages that flows send of one camera in an hour at most."""
    turns_per_hour: Annotated[int, Meta(ge=0, le=60)] = 6
    """How often flows turn one camera to its preset for alarms in an hour at most; while it is turned it sees nothing
    of what it is there to see."""
    dry_run: bool = False
    """Write what would be done, and do nothing."""


class VadConfig(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    provisional_s: Positive = 10.0
    """Footage learned before a first, provisional state scores anything."""
    armed_s: Positive = 120.0
    """Footage learned below which a state stays provisional."""
    gate_max_closed_s: Annotated[float, Meta(gt=0, le=2)] = 2.0
    """The motion gate never stays closed for longer."""
    drift_cameras: Annotated[int, Meta(ge=0, le=10_000)] = 16
    """Cameras that follow what slowly changes: they learn on from ordinary footage, and use that once it is better.
    Each takes up to some tens of MB of inference's memory; the first so many that watch do, 0 none."""
    drift_every_h: Annotated[float, Meta(ge=1, le=720)] = 24.0
    """Watched hours between two looks at whether what was learned on is better."""
    drift_save_h: Annotated[float, Meta(ge=0.01, le=24)] = 1.0
    """Watched hours between two times that what is learned on is saved, which is what a crash may lose of it. A file
    has up to 100 MB per camera, of fused 400 MB."""
    drift_shift: Annotated[float, Meta(gt=0, le=6)] = 0.5
    """-log10 P by which scores may move in a watched day, so that nobody teaches a camera to look away."""


class TrackerConfig(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a score curve becomes an event; scores are -log10 P."""

    open_score: Positive = 2.0
    """Smoothed score at which an event opens."""
    close_score: Positive = 1.4
    """Smoothed score under which it begins to close."""
    smooth_s: Annotated[float, Meta(ge=0)] = 0.5
    """Causal averaging window."""
    persist_s: Annotated[float, Meta(ge=0)] = 0.3
    """How long the score stays over `open_score` before an event opens."""
    close_s: Annotated[float, Meta(ge=0)] = 1.0
    """How long it stays under `close_score` before it closes."""
    merge_s: Annotated[float, Meta(ge=0)] = 1.0
    """A new event so soon after the last is the last one going on."""
    max_s: Positive = 300.0
    """A longer event is closed and goes on as the next."""
    cooldown_s: Annotated[float, Meta(ge=0)] = 10.0
    """After an event nothing opens at the same place for so long, unless it is more severe; 0 never waits."""
    cooldown_reach: Annotated[float, Meta(gt=0, le=2)] = 0.2
    """What "the same place" is: so many heights of the frame around the event's peak."""
    update_s: Positive = 5.0
    """How often an open event is reported again."""
    false_events_per_day: Annotated[float, Meta(ge=0, le=10_000)] = 24.0
    """Of each camera; once enough was watched, its threshold is set for so many. 0 keeps `open_score` for ever."""

    def at(self, open_score: float) -> "TrackerConfig":
        """The same with another threshold; the closing one keeps its proportion."""
        close_score = open_score * self.close_score / self.open_score
        return msgspec.structs.replace(self, open_score=open_score, close_score=close_score)


class LoggerConfig(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    flush_events: Count = 10
    flush_s: Positive = 0.1
    """Between two commits at least, so that many records share one; the first after a pause is committed at once."""
    journal_days: Count = 30
    """Days of journal files kept once all that is in them is committed."""
    spool_events: Count = 10_000
    """Unacknowledged messages that a sender keeps on disk at most."""


class SiteConfig(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    time_zone: str = "UTC"
    """IANA name of where the cameras are: what a day is, where nobody says otherwise."""


KeptDays = Annotated[int, Meta(ge=3, le=36_500)]
"""Statistics count the last two days anew each day: what they count must still be there."""


class RetentionConfig(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long things are kept, in days. Events that are locked as evidence are kept for ever, with their files."""

    days: KeptDays = 365
    """Events."""
    severity_days: dict[Severity, KeptDays] = {}
    """Events of a severity, instead."""
    camera_days: dict[str, KeptDays] = {}
    """Events of a camera, instead."""
    unacknowledged_days: KeptDays = 365
    """Events of which nobody took note, at least."""
    media_days: KeptDays = 60
    """Snapshots, heat maps and clips."""
    camera_media_gb: Positive = 20.0
    """Files of one camera, 10^9 bytes; of more, those of the least severe events go first."""
    score_seconds_days: KeptDays = 7
    score_minutes_days: KeptDays = 90
    state_days: KeptDays = 365
    """Changes of cameras' phases, and the log of deliveries."""
    audit_days: KeptDays = 730
    removed_days: KeptDays = 30
    """What cameras that were removed had learned, and their logs, unchanged for so long."""


class BackupConfig(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    folder: str = ""
    """"" is `backups` in the data folder; better another disk."""
    every_h: Annotated[int, Meta(ge=0, le=720)] = 24
    """Hours between backups; 0 makes none."""
    keep: Count = 7
    """The newest so many are kept."""


class ManagerConfig(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    reconcile_s: Positive = 0.5
    start_grace_s: Positive = 20.0
    """Time to the first heartbeat before a process counts as hung."""
    hung_s: Positive = 5.0
    """Age of a heartbeat at which a process counts as hung."""
    stop_grace_s: Positive = 5.0
    """Time from SIGTERM to SIGKILL."""
    backoff_max_s: Positive = 60.0
    stable_s: Positive = 30.0
    """Running for so long resets the back-off."""
    suspended_s: Positive = 0.5
    """A process that somebody stopped (SIGSTOP) is replaced after so long: hardly anything else looks like it."""
    concurrent_starts: Count = 4
    recycle_h: Annotated[float, Meta(ge=0)] = 24.0
    """A camera's process is started anew after so long, a tenth more or less, as video libraries leak; 0 never."""
    recycle_mb: Annotated[float, Meta(ge=0)] = 1000.0
    """And when it has so much private memory, 10^6 bytes; 0 never."""


HardwareDecoding = Literal["off", "auto", "cuda", "vaapi", "qsv", "videotoolbox"]
"""As FFmpeg names the kinds; "auto" is the first that is there."""


class CamerasConfig(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What holds for all cameras; what belongs to one is in the database."""

    roots: tuple[str, ...] = ()
    """Files, folders and devices that come through the API lie beneath one of these; the command line is free."""
    open_s: Positive = 8.0
    """Time to connect and to get a first picture."""
    read_s: Positive = 6.0
    """Silence after which a source counts as stalled."""
    decode_s: Positive = 5.0
    """Time that decoding one picture may take before the process counts as hung."""
    hardware_decoding: HardwareDecoding = "off"
    """Each camera's process then has a context of its own on the device, which takes some of its memory."""
    reconnect_s: Positive = 0.5
    """First wait before connecting again; it doubles each time."""
    reconnect_max_s: Positive = 30.0
    flat_s: Positive = 600.0
    """Movement during which a score that never changes counts as broken."""
    clip_mb: Positive = 64.0
    """Packets of one camera that are kept in memory for its clips, 10^6 bytes; of more, the oldest go."""
    clip_max_s: Positive = 120.0
    """A clip is cut there; its event goes on."""
    disk_reserve_mb: Annotated[float, Meta(ge=0)] = 500.0
    """Room on the disk, 10^6 bytes, below which no clips are written."""


class SightConfig(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether a camera still sees what it is there to see: looked at before detection, and instead of it."""

    enabled: bool = True
    """False scores and learns from whatever comes."""
    confirm_s: Annotated[float, Meta(ge=0.4, le=60)] = 1.4
    """How long pictures look wrong before that is called a fault; meanwhile they are not scored."""
    clear_s: Annotated[float, Meta(ge=0.2, le=60)] = 2.0
    """How long they look right before it is over."""
    settle_s: Annotated[float, Meta(ge=0.5, le=60)] = 5.0
    """How long exposure and night sight take to settle after a switch: nothing is scored or learned meanwhile."""
    tamper: tuple[Fault, ...] = (Fault.COVERED, Fault.BLURRED, Fault.MOVED, Fault.BLACK)
    """Faults that raise an event of the type tamper; leave "black" out where lights are switched off at night."""
    new_view_s: Annotated[float, Meta(ge=10, le=86_400)] = 600.0
    """A camera that was moved and left so for so long learns its new view."""


class WatchdogConfig(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ends processes that hang, so that supervisord starts them again, and tells the world that we live."""

    hung_s: dict[str, Positive] = {}
    """Age of the heartbeat, by process, at which it is killed; otherwise 15 s, inference 60 s, housekeeper 120 s."""
    dead_man_url: str = ""
    """Called again and again while all is well, so that somebody else notices when it is not; "" calls nobody."""
    dead_man_s: Positive = 60.0


class NetworksConfig(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where Haetae may connect to for its users: "loopback", "private", "public", or networks such as 10.1.0.0/16.

    Link-local addresses and the metadata services of clouds are never called, whatever stands here.
    """

    cameras: tuple[str, ...] = ("private", "public")
    webhooks: tuple[str, ...] = ("public",)
    push: tuple[str, ...] = ("public",)
    """Push services of browsers: their addresses come from whoever has an account."""
    servers: tuple[str, ...] = ("loopback", "private", "public")
    """Mail servers and MQTT brokers of channels."""
    vlm: tuple[str, ...] = ("loopback", "private")


class NotifierConfig(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Telling people; whom and about what is in the database: channels and rules."""

    language: Literal["en", "ko"] = "en"
    """Of messages, where a rule does not say otherwise."""
    public_url: Annotated[str, Meta(pattern=r"^(https?://[^\s?#]*[^\s?#/])?$")] = ""
    """Where the web page is found, such as https://haetae.example; messages link to it. "" makes no links."""
    window_s: Annotated[float, Meta(ge=0, le=3600)] = 15.0
    """What is like the last one sent (rule, camera and type) is held back for so long, unless it is more urgent."""
    max_age_h: Annotated[float, Meta(gt=0, le=720)] = 24.0
    """Events that began earlier are told to nobody: a notifier that was away for long does not wake everybody."""
    give_up_h: Annotated[float, Meta(gt=0, le=720)] = 24.0
    """A message that could not be sent for so long is given up; it can be replayed."""
    retry_s: Annotated[float, Meta(ge=0.1, le=60)] = 1.0
    """First wait before a message is tried again; it doubles each time, a half more or less."""
    retry_max_s: Annotated[float, Meta(ge=1, le=86_400)] = 3600.0
    connect_s: Annotated[float, Meta(gt=0, le=60)] = 5.0
    """Time to connect to a server."""
    send_s: Annotated[float, Meta(gt=0, le=120)] = 10.0
    """Time to send one message, connecting included."""
    at_once: Annotated[int, Meta(ge=1, le=64)] = 8
    """Messages that are under way to one channel at the same time, at most."""
    starved_s: Annotated[float, Meta(ge=1, le=86_400)] = 300.0
    """A message that is due for so long goes before more urgent ones, one at a time."""
    broken_after: Annotated[int, Meta(ge=1, le=100)] = 5
    """So many failures in a row, and a channel rests; another one is told."""
    rest_s: Annotated[float, Meta(ge=1, le=3600)] = 30.0
    """First rest of a channel that keeps failing; it doubles each time, up to `rest_max_s`."""
    rest_max_s: Annotated[float, Meta(ge=1, le=86_400)] = 600.0
    snapshot_kb: Annotated[int, Meta(ge=10, le=2000)] = 200
    """Pictures in messages are made smaller than this, 10^3 bytes."""


class ApiConfig(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The REST API and the web page."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 is all of this machine's."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 8420
    """0 takes any that is free."""
    tls_certificate: str = ""
    """PEM file with the certificate and its chain; with tls_key, HTTPS is spoken and plain HTTP is not."""
    tls_key: str = ""
    plain_http: bool = False
    """Speak plain HTTP on other addresses than loopback: passwords and pictures may then be read on the network."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses of reverse proxies, whose X-Forwarded-For and X-Forwarded-Proto are believed."""
    origins: tuple[str, ...] = ()
    """Other web pages that may use the API from a browser, such as https://wall.example; none by default."""
    registration: Literal["closed", "invitation", "open"] = "closed"
    """Who may make an account: nobody but administrators, whoever was invited, or anybody (as a viewer of nothing)."""
    access_minutes: Annotated[float, Meta(ge=1, le=60)] = 15.0
    """Life of an access token."""
    session_idle_days: Annotated[float, Meta(gt=0, le=90)] = 7.0
    """A session that is not refreshed for so long is over."""
    session_days: Annotated[float, Meta(gt=0, le=365)] = 30.0
    """Any session is over after so long."""
    requests_per_s: Annotated[float, Meta(gt=0, le=10_000)] = 50.0
    """Of one user or key; of one address where nobody is logged in, a quarter. Bursts of ten times as many pass."""
    body_kb: Annotated[int, Meta(ge=16, le=100_000)] = 1000
    """The largest request body."""
    frames_per_s: Annotated[float, Meta(gt=0, le=60)] = 5.0
    """Of a live picture, where nobody asks for another rate."""
    frames_per_s_max: Annotated[float, Meta(gt=0, le=60)] = 15.0
    """That anybody may ask for."""
    tile_width: Annotated[int, Meta(ge=64, le=1920)] = 640
    """Pixels that a live picture of the wall is wide at most."""
    full_width: Annotated[int, Meta(ge=64, le=3840)] = 1920
    """Pixels that a single live picture is wide at most."""
    jpeg_quality: Annotated[int, Meta(ge=30, le=95)] = 75
    """Of live pictures."""
    sockets_per_user: Annotated[int, Meta(ge=1, le=10_000)] = 64
    """WebSockets and picture streams that one user holds open at most."""

    @property
    def secure(self) -> bool:
        return bool(self.tls_certificate)


class LogConfig(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    level: str = "info"
    """debug, info, warning or error."""
    format: str = "json"
    """json or console."""


class Config(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    node_id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = "local"
    paths: PathsConfig = PathsConfig()
    database: DatabaseConfig = DatabaseConfig()
    bus: BusConfig = BusConfig()
    inference: InferenceConfig = InferenceConfig()
    vad: VadConfig = VadConfig()
    vlm: VlmConfig = VlmConfig()
    flows: FlowsConfig = FlowsConfig()
    tracker: TrackerConfig = TrackerConfig()
    logger: LoggerConfig = LoggerConfig()
    manager: ManagerConfig = ManagerConfig()
    site: SiteConfig = SiteConfig()
    retention: RetentionConfig = RetentionConfig()
    backup: BackupConfig = BackupConfig()
    watchdog: WatchdogConfig = WatchdogConfig()
    networks: NetworksConfig = NetworksConfig()
    notifier: NotifierConfig = NotifierConfig()
    api: ApiConfig = ApiConfig()
    cameras: CamerasConfig = CamerasConfig()
    sight: SightConfig = SightConfig()
    log: LogConfig = LogConfig()
    file: Path | None = None
    """Where it was read from; set by load_config."""

    @property
    def data_dir(self) -> Path:
        return Path(self.paths.data).expanduser().absolute()

    @property
    def run_dir(self) -> Path:
        """Private to the user and to this data folder, with a path short enough for Unix sockets."""
        if self.paths.run:
            return Path(self.paths.run).expanduser().absolute()
        mark = hashlib.sha256(str(self.data_dir).encode()).hexdigest()[:10]
        return Path(tempfile.gettempdir()) / f"haetae-{os.getuid()}-{mark}"

    @property
    def database_url(self) -> str:
        return self.database.url or f"sqlite:///{self.data_dir / 'haetae.db'}"

    @property
    def media_dir(self) -> Path:
        return self.data_dir / "media"

    @property
    def states_dir(self) -> Path:
        return self.data_dir / "states"

    @property
    def journal_dir(self) -> Path:
        return self.data_dir / "journal"

    @property
    def spool_dir(self) -> Path:
        return self.data_dir / "spool"

    @property
    def secrets_dir(self) -> Path:
        """Keys that must not lie in the database nor in its backups; 0700."""
        return self.data_dir / "secrets"

    @property
    def logs_dir(self) -> Path:
        return self.data_dir / "logs"

    @property
    def backups_dir(self) -> Path:
        return Path(self.backup.folder).expanduser().absolute() if self.backup.folder else self.data_dir / "backups"

    def endpoint(self, name: str) -> str:
        """The ZeroMQ address of a process of this instance, such as "inference" or "logger-feed"."""
        return f"ipc://{self.run_dir / (name + '.sock')}"

    def make_dirs(self) -> None:
        """Creates the data and run folders; raises ConfigError where that is refused.

        The run folder holds the sockets that control everything, so it must be ours alone (0700).
        """
        for folder in (self.data_dir, self.media_dir, self.states_dir, self.journal_dir, self.spool_dir, self.logs_dir):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(
                    f"cannot create {folder}: {error.strerror}", "choose another folder with paths.data (or --out)"
                ) from error
            if not os.access(folder, os.W_OK | os.X_OK):
                raise ConfigError(f"cannot write to {folder}", "change its permissions, or choose another folder")
        make_private_dir(self.run_dir)


def make_private_dir(folder: Path) -> None:
    """Creates `folder` with mode 0700, or checks that it is a real directory that is ours alone."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = os.lstat(folder)
    except OSError as error:
        raise ConfigError(
            f"cannot create {folder}: {error.strerror}", "choose another folder with paths.run"
        ) from error
    if folder.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ConfigError(
            f"{folder} is open to others",
            "its sockets control everything: remove it, or choose a private folder with paths.run",
        )


def load_config(file: Path | None = None, environ: Mapping[str, str] | None = None, **overrides: Any) -> Config:
    """The configuration from `file` (default: $HAETAE_CONFIG, else ./haetae.toml if it exists) and environment.

    `overrides` are sections or values laid over both, e.g. `paths={"data": "out"}`. Raises ConfigError.
    """
    environ = os.environ if environ is None else environ
    if file is None:
        named = environ.get("HAETAE_CONFIG")
        file = Path(named) if named else Path("haetae.toml")
        must_exist = bool(named)
    else:
        must_exist = True
    tree: dict[str, Any] = {}
    if must_exist or file.exists():
        try:
            tree = tomllib.loads(file.read_text())
        except OSError as error:
            raise ConfigError(f"cannot read {file}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file} is not TOML: {error}") from error
    _check_keys(tree, Config, str(file))
    _overlay(tree, _from_environ(environ))
    _overlay(tree, overrides)
    if "file" in tree:
        raise ConfigError(f"{file}: unknown key 'file'")
    try:
        config = msgspec.convert(tree, Config, strict=False)
        for names in msgspec.structs.astuple(config.networks):
            AllowedNetworks(names)
        return msgspec.structs.replace(config, file=file.absolute() if file.exists() else None)
    except msgspec.ValidationError as error:
        raise ConfigError(f"configuration: {error}") from error


def _from_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in environ.items():
        if not name.startswith(ENV_PREFIX) or name in _NOT_KEYS:
            continue
        *sections, key = name[len(ENV_PREFIX) :].lower().split("__")
        level = tree
        for section in sections:
            level = level.setdefault(section, {})
        level[key] = value
    _check_keys(tree, Config, "environment")
    _split_lists(tree, Config)
    return tree


def _split_lists(tree: dict[str, Any], struct: type[msgspec.Struct]) -> None:
    """A variable cannot hold a list: it is written as a,b,c."""
    for field in msgspec.structs.fields(struct):
        value = tree.get(field.name)
        if isinstance(value, str) and get_origin(field.type) is tuple:
            tree[field.name] = [one.strip() for one in value.split(",") if one.strip()]
        elif isinstance(value, dict) and isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            _split_lists(cast("dict[str, Any]", value), field.type)


def _overlay(base: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            _overlay(base[key], cast("Mapping[str, Any]", value))
        else:
            base[key] = value


def _check_keys(tree: Mapping[str, Any], struct: type[msgspec.Struct], where: str, path: str = "") -> None:
    fields = {field.name: field for field in msgspec.structs.fields(struct)}
    for key, value in tree.items():
        if key not in fields:
            near = difflib.get_close_matches(key, fields, 1)
            hint = f"did you mean {path + near[0]!r}?" if near else f"known here: {', '.join(fields)}"
            raise ConfigError(f"{where}: unknown key {path + key!r}", hint)
        kind = fields[key].type
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{where}: {path + key!r} is a section, not a value", f"write [{path + key}]")
            _check_keys(cast("Mapping[str, Any]", value), kind, where, f"{path}{key}.")
