/** The events that are shown: pages by cursor, and what comes live. */
import { computed, signal } from "@preact/signals";
import { api, ask } from "../../api/client";
import type { EventOut } from "../../api/schema";
import { onLive } from "../../live/events";
import { asked, filter, matches, readAt, type Filter } from "./filter";

const PAGE = 50;

export const events = signal<readonly EventOut[]>([]);
/** Came live while somebody reads: shown when they ask for it. */
export const waiting = signal<readonly EventOut[]>([]);
export const loading = signal(true);
export const problem = signal<unknown>(null);
/** Null after the last page. */
export const cursor = signal<string | null>(null);
export const selected = signal<ReadonlySet<string>>(new Set());
export const current = signal("");
export const currentIndex = computed(() => events.value.findIndex((one) => one.id === current.value));

let wanted: Filter | null = null;
let round = 0;
/** Whether what comes may be put on top now; set by the list, which knows what is being read. */
let undisturbed: () => boolean = () => true;

export function letIn(when: () => boolean): void {
  undisturbed = when;
}

const newestFirst = (a: EventOut, b: EventOut): number =>
  a.began_at === b.began_at ? (a.id < b.id ? 1 : -1) : a.began_at < b.began_at ? 1 : -1;

/** Without doubles, the newest state of each. */
function merged(...lists: (readonly EventOut[])[]): EventOut[] {
  const byId = new Map<string, EventOut>();
  for (const one of lists.flat()) {
    const known = byId.get(one.id);
    if (!known || known.sequence <= one.sequence) byId.set(one.id, one);
  }
  return [...byId.values()].sort(newestFirst);
}

export async function read(): Promise<void> {
  wanted = filter.peek();
  readAt.value = Date.now();
  const own = ++round;
  loading.value = true;
  problem.value = null;
  waiting.value = [];
  try {
    const page = await ask(
      api.GET("/api/v1/events", { params: { query: { ...asked(wanted, readAt.value), limit: PAGE } } }),
    );
    if (own !== round) return;
    events.value = page.events;
    cursor.value = page.cursor;
    selected.value = new Set();
  } catch (error) {
    if (own === round) problem.value = error;
  }
  if (own === round) loading.value = false;
}

export async function more(): Promise<void> {
  const at = cursor.peek();
  if (!at || loading.peek() || !wanted) return;
  const own = round;
  loading.value = true;
  try {
    const page = await ask(
      api.GET("/api/v1/events", { params: { query: { ...asked(wanted, readAt.value), limit: PAGE, cursor: at } } }),
    );
    if (own !== round) return;
    events.value = merged(events.value, page.events);
    cursor.value = page.cursor;
  } catch (error) {
    if (own === round) problem.value = error;
  }
  if (own === round) loading.value = false;
}

export function showWaiting(): void {
  events.value = merged(events.peek(), waiting.peek());
  waiting.value = [];
}

/** An event as it is now: in its place if it is shown, else on top if it belongs there. */
export function take(event: EventOut): void {
  if (events.peek().some((one) => one.id === event.id)) {
    events.value = events.peek().map((one) => (one.id === event.id && one.sequence <= event.sequence ? event : one));
    return;
  }
  const held = waiting.peek().filter((one) => one.id !== event.id);
  const oldest = events.peek().at(-1);
  const beyond = cursor.peek() !== null && oldest !== undefined && newestFirst(event, oldest) > 0;
  if (!wanted || !matches(wanted, event, Date.now()) || beyond) {
    if (held.length !== waiting.peek().length) waiting.value = held;
    return;
  }
  if (undisturbed()) events.value = merged(events.peek(), [event]);
  else waiting.value = merged(held, [event]);
}

export function follow(): () => void {
  const stops = [onLive("event", (news) => take(news.event)), onLive("reset", () => void read())];
  return () => {
    for (const stop of stops) stop();
  };
}

export function toggle(id: string, on?: boolean): void {
  const next = new Set(selected.peek());
  if (on ?? !next.has(id)) next.add(id);
  else next.delete(id);
  selected.value = next;
}
