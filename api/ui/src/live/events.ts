/** The feed of /ws/events: what happens, to whoever listens, without a gap after a loss. */
import { computed, signal } from "@preact/signals";
import type { EventOut, Severity } from "../api/schema";
import { alarm } from "../sound";
import type { CameraNews, EventNews, StatisticsNews } from "./protocol";
import { LiveSocket } from "./socket";

type Listeners = {
  event: Set<(news: EventNews) => void>;
  camera: Set<(news: CameraNews) => void>;
  statistics: Set<(news: StatisticsNews) => void>;
  /** What is shown may have gaps: read it anew. */
  reset: Set<() => void>;
};

const listeners: Listeners = { event: new Set(), camera: new Set(), statistics: new Set(), reset: new Set() };

type Listener<K extends keyof Listeners> = Listeners[K] extends Set<infer L> ? L : never;

/**
 * Calls `listener` with each message of its kind; returns how to stop. "event" tells of an event as it is stored and
 * again with each change; "camera" of what is observed of a camera; "statistics" of today's figures, at most once a
 * second; "reset" that this page was away for too long to be told what it missed.
 */
export function onLive<K extends keyof Listeners>(kind: K, listener: Listener<K>): () => void {
  const set = listeners[kind] as Set<Listener<K>>;
  set.add(listener);
  return () => set.delete(listener);
}

/** Events that began while the list of events was not shown. */
export const unseen = signal(0);

let sequence: number | null = null;

const RANK: Record<Severity, number> = { info: 0, low: 1, medium: 2, high: 3, critical: 4 };
const REMEMBERED = 200;
const sounded = new Map<string, number>();

/** Once for an event, and again where it becomes worse; never for what somebody has taken note of. */
function sound(event: EventOut): void {
  const rank = RANK[event.severity];
  if (event.acknowledged_at || rank <= (sounded.get(event.id) ?? -1)) return;
  sounded.delete(event.id);
  sounded.set(event.id, rank);
  for (const id of sounded.keys()) {
    if (sounded.size <= REMEMBERED) break;
    sounded.delete(id);
  }
  alarm(event.severity);
}

const socket = new LiveSocket({
  path: "/api/v1/ws/events",
  after: () => sequence,
  onMessage: (message) => {
    switch (message.type) {
      case "ready":
        sequence ??= message.sequence;
        break;
      case "event":
        sequence = message.sequence;
        if (message.what.includes("opened")) unseen.value += 1;
        if (message.event.state === "open" || message.what.includes("opened")) sound(message.event);
        for (const listener of listeners.event) listener(message);
        break;
      case "camera":
        for (const listener of listeners.camera) listener(message);
        break;
      case "statistics":
        for (const listener of listeners.statistics) listener(message);
        break;
      case "reset":
        sequence = message.sequence;
        for (const listener of listeners.reset) listener();
        break;
      case "heartbeat":
        sequence = Math.max(sequence ?? 0, message.sequence);
        break;
      case "goodbye":
      case "watching":
        break;
    }
  },
});

export const linkState = computed(() => socket.state.value);
/** Since when it is lost; null while it is live, and before it ever was. */
export const linkSince = computed(() => socket.lostAt.value);

export const startLive = (): void => socket.start();
export function stopLive(): void {
  socket.stop();
  sequence = null;
  unseen.value = 0;
}
