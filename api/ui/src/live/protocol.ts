/** The messages of /api/v1/ws/events and /api/v1/ws/frames; docs/api.md has what they mean. */
import type { CameraPhase, EventOut, Observed, PeriodOut } from "../api/schema";

export type Hello = { type: "hello"; ticket: string; after: number | null };

export type What =
  | "opened"
  | "updated"
  | "closed"
  | "analysed"
  | "acknowledged"
  | "acknowledgement_undone"
  | "locked"
  | "unlocked"
  | "changed";

export type AckNews = { at: string; actor: string; reason: string; note: string; assignee: string };

export type EventNews = {
  type: "event";
  sequence: number;
  what: What[];
  event: EventOut;
  acknowledgement: AckNews | null;
};
export type CameraNews = { type: "camera"; camera_id: string; observed: Observed | null; gone: boolean };
export type StatisticsNews = { type: "statistics"; version: number; time_zone: string; today: PeriodOut };

export type FrameSize = "tile" | "full";
export type CameraView = { camera_id: string; size: FrameSize; fps?: number; heat: boolean };
export type Channel = {
  camera_id: string;
  size: FrameSize;
  /** 0 where there are none to come. */
  channel: number;
  problem: "" | "not_found" | "no_picture";
};

export type ServerMessage =
  | { type: "ready"; sequence: number; heartbeat_s: number }
  | { type: "heartbeat"; at: string; sequence: number; skipped: number }
  | { type: "goodbye"; code: string; message: string }
  | { type: "reset"; sequence: number }
  | { type: "watching"; channels: Channel[] }
  | EventNews
  | CameraNews
  | StatisticsNews;

/** Of a frame: what is known of it beside its picture. */
export type FrameHead = {
  channel: number;
  phase: CameraPhase | null;
  learning: boolean;
  /** 0..1 of what it is to learn from. */
  learned: number;
  eventOpen: boolean;
  fault: boolean;
  /** Seconds between its capture and its sending. */
  ageS: number;
  capturedAt: number;
  /** -log10 P; null where none was judged of late. */
  score: number | null;
  openScore: number | null;
  peakX: number;
  peakY: number;
  width: number;
  height: number;
  rows: number;
  columns: number;
};

export type Frame = { head: FrameHead; map: Uint8Array | null; jpeg: Blob };

const HEADER_BYTES = 48;
const VERSION = 1;
const EVENT = 1;
const FAULT = 2;
const STALE_SCORE = 4;
const LEARNING = 1;
const PHASES: readonly (CameraPhase | null)[] = [
  null,
  "stopped",
  "starting",
  "disconnected",
  "connecting",
  "learning",
  "provisional",
  "watching",
  "degraded",
  "backoff",
  "stopping",
  "failed",
];

const finite = (value: number): number | null => (Number.isFinite(value) ? value : null);

/** Null for what this page does not understand. */
export function readFrame(data: ArrayBuffer): Frame | null {
  if (data.byteLength <= HEADER_BYTES) return null;
  const view = new DataView(data);
  if (view.getUint8(0) !== VERSION) return null;
  const flags = view.getUint8(1);
  const rows = view.getUint8(44);
  const columns = view.getUint8(45);
  const head: FrameHead = {
    channel: view.getUint16(2, true),
    phase: PHASES[view.getUint8(5)] ?? null,
    learning: view.getUint8(4) === LEARNING,
    learned: view.getUint16(6, true) / 1000,
    eventOpen: (flags & EVENT) !== 0,
    fault: (flags & FAULT) !== 0,
    ageS: view.getUint32(12, true) / 1000,
    capturedAt: view.getFloat64(16, true),
    score: flags & STALE_SCORE ? null : finite(view.getFloat32(24, true)),
    openScore: finite(view.getFloat32(28, true)),
    peakX: view.getFloat32(32, true),
    peakY: view.getFloat32(36, true),
    width: view.getUint16(40, true),
    height: view.getUint16(42, true),
    rows,
    columns,
  };
  const begin = HEADER_BYTES + rows * columns;
  return {
    head,
    map: rows ? new Uint8Array(data, HEADER_BYTES, rows * columns) : null,
    jpeg: new Blob([new Uint8Array(data, begin)], { type: "image/jpeg" }),
  };
}
