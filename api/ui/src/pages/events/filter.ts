/** What the list is asked for: in the URL, so that it can be sent to somebody, and left and found again. */
import { computed, signal } from "@preact/signals";
import type { EventOut, EventState, Severity } from "../../api/schema";
import { query } from "../../router";

export const SEVERITIES: readonly Severity[] = ["critical", "high", "medium", "low", "info"];
const STATES: readonly EventState[] = ["open", "closed", "interrupted"];
export const WITHIN = { "1h": 3600, "24h": 86_400, "7d": 7 * 86_400, "30d": 30 * 86_400 } as const;
export type Within = keyof typeof WITHIN;

export type Filter = {
  cameras: string[];
  severities: Severity[];
  types: string[];
  states: EventState[];
  acknowledged: "" | "true" | "false";
  within: Within | "";
  from: string;
  to: string;
  minScore: number;
  text: string;
};

const among = <T extends string>(values: string[], known: readonly T[]): T[] =>
  known.filter((one) => values.includes(one));

/** Compared as text, so that another page's query, or the same one again, changes nothing. */
const written = computed(() => {
  const keep = new URLSearchParams(query.value);
  return keep.toString();
});

export const filter = computed((): Filter => {
  const q = new URLSearchParams(written.value);
  const within = q.get("within") ?? "";
  const acknowledged = q.get("acknowledged");
  return {
    cameras: q.getAll("camera_id"),
    severities: among(q.getAll("severity"), SEVERITIES),
    types: q.getAll("vlm_type"),
    states: among(q.getAll("state"), STATES),
    acknowledged: acknowledged === "true" || acknowledged === "false" ? acknowledged : "",
    within: within in WITHIN ? (within as Within) : "",
    from: q.get("from") ?? "",
    to: q.get("to") ?? "",
    minScore: Number(q.get("min_score")) || 0,
    text: q.get("text") ?? "",
  };
});

export const isFiltered = computed(() => written.value !== "");

/** Moves on while a relative time is shown: what "the last hour" means is told once a read. */
export const readAt = signal(Date.now());

export function begin(of: Filter, now: number): string {
  return of.within ? new Date(now - WITHIN[of.within] * 1000).toISOString() : of.from;
}

/** For GET /events. */
export function asked(of: Filter, now: number) {
  const from = begin(of, now);
  return {
    ...(of.cameras.length && { camera_id: of.cameras }),
    ...(of.severities.length && { severity: of.severities }),
    ...(of.types.length && { vlm_type: of.types }),
    ...(of.states.length && { state: of.states }),
    ...(of.acknowledged && { acknowledged: of.acknowledged }),
    ...(from && { from }),
    ...(of.to && !of.within && { to: of.to }),
    ...(of.minScore && { min_score: of.minScore }),
    ...(of.text && { text: of.text }),
  };
}

/** Whether an event that came live belongs to the list; as the server would judge it. */
export function matches(of: Filter, event: EventOut, now: number): boolean {
  const has = <T>(list: readonly T[], one: T): boolean => list.length === 0 || list.includes(one);
  const from = begin(of, now);
  const words = of.text.toLocaleLowerCase();
  return (
    has(of.cameras, event.camera_id) &&
    has(of.severities, event.severity) &&
    has(of.types, event.vlm_type) &&
    has(of.states, event.state) &&
    (of.acknowledged === "" || (event.acknowledged_at !== null) === (of.acknowledged === "true")) &&
    (!from || Date.parse(event.began_at) >= Date.parse(from)) &&
    (!of.to || of.within !== "" || Date.parse(event.began_at) < Date.parse(of.to)) &&
    event.peak_score >= of.minScore &&
    (!words || `${event.reason}\n${event.description}`.toLocaleLowerCase().includes(words))
  );
}
