/** The newest events beside the wall. */
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { api, ask } from "../../api/client";
import type { EventOut } from "../../api/schema";
import { SeverityMark } from "../../components/marks";
import { clockTime, dayKey, dayName, duration } from "../../i18n";
import { eventStates, typeName } from "../../i18n/common";
import { onLive } from "../../live/events";
import { cameraName } from "../../store/cameras";
import type { OpenEvent } from "./tile";
import { text } from "./texts";

const KEPT = 60;

/** The newest first. */
export const latest = signal<readonly EventOut[]>([]);

export function openEvents(): ReadonlyMap<string, OpenEvent> {
  const open = new Map<string, OpenEvent>();
  for (const event of latest.value)
    if (event.state === "open" && !open.has(event.camera_id))
      open.set(event.camera_id, { id: event.id, severity: event.severity, type: event.vlm_type });
  return open;
}

function take(event: EventOut): void {
  const others = latest.peek().filter((one) => one.id !== event.id);
  latest.value = [event, ...others].sort((a, b) => (a.began_at < b.began_at ? 1 : -1)).slice(0, KEPT);
}

async function read(): Promise<void> {
  try {
    const page = await ask(api.GET("/api/v1/events", { params: { query: { limit: KEPT } } }));
    const told = new Map(latest.peek().map((one) => [one.id, one]));
    for (const event of page.events) {
      const known = told.get(event.id);
      if (!known || known.sequence < event.sequence) take(event);
    }
  } catch {
    // the feed goes on; the list of events tells what is wrong
  }
}

export function useLatest(): void {
  useEffect(() => {
    void read();
    const stops = [onLive("event", (news) => take(news.event)), onLive("reset", () => void read())];
    return () => {
      for (const stop of stops) stop();
    };
  }, []);
}

export function Feed({ camera }: { camera: string | null }) {
  const events = latest.value.filter((one) => camera === null || one.camera_id === camera);
  const today = dayKey(new Date());
  return (
    <section class="feed" aria-label={camera === null ? text().feed : text().recent}>
      <h2>{camera === null ? text().feed : text().recent}</h2>
      <ol aria-live="polite" aria-relevant="additions" hidden={events.length === 0}>
        {events.map((event) => (
          <li key={event.id} class={event.acknowledged_at ? "done" : ""}>
            <a href={`/events/${event.id}`}>
              <span class="feed-picture">
                {event.has_snapshot && (
                  <img src={`/api/v1/events/${event.id}/media/snapshot`} alt="" loading="lazy" decoding="async" />
                )}
              </span>
              <span class="feed-words">
                <span class="row between">
                  <SeverityMark severity={event.severity} />
                  <span class="num small muted">
                    {dayKey(event.began_at) === today ? clockTime(event.began_at) : dayName(event.began_at)}
                  </span>
                </span>
                <strong class="cut">{typeName(event.vlm_type)}</strong>
                <span class="row between small muted">
                  <span class="cut">{cameraName(event.camera_id)}</span>
                  <span class="num">{event.state === "open" ? eventStates().open : duration(event.duration_s)}</span>
                </span>
              </span>
            </a>
          </li>
        ))}
      </ol>
      {events.length === 0 && <p class="muted feed-none">{text().noEvents}</p>}
    </section>
  );
}
