/** What people do with events; each tells what came of it, and what can be taken back is offered to be. */
import { api, ask } from "../../api/client";
import type { EventDetailOut } from "../../api/schema";
import { failed, toast } from "../../components/toast";
import { events, selected, take } from "./list";
import { text } from "./texts";

const path = (event_id: string) => ({ params: { path: { event_id } } });

export type Acknowledgement = { reason: string; note: string; assignee: string };

/** Throws ApiProblem. */
export async function acknowledge(ids: readonly string[], given: Acknowledgement): Promise<void> {
  const done = await ask(api.POST("/api/v1/events/ack", { body: { ids: [...ids], ...given } }));
  const at = new Date().toISOString();
  const taken = new Set(done.acknowledged);
  events.value = events.peek().map((one) => (taken.has(one.id) ? { ...one, acknowledged_at: one.acknowledged_at ?? at } : one));
  selected.value = new Set();
  const count = done.acknowledged.length;
  const words = done.left_out.length ? text().ackLeft(count, done.left_out.length) : text().ackDone(count);
  toast(words, count ? () => void undo(done.acknowledged) : undefined);
}

async function undo(ids: readonly string[]): Promise<void> {
  try {
    for (const id of ids) take((await ask(api.DELETE("/api/v1/events/{event_id}/ack", path(id)))).event);
  } catch (error) {
    failed(error);
  }
}

/** The event as it is afterwards; null where it went wrong, which was told. */
async function told(work: Promise<EventDetailOut>, words: string, back?: () => void): Promise<EventDetailOut | null> {
  try {
    const detail = await work;
    take(detail.event);
    toast(words, back);
    return detail;
  } catch (error) {
    failed(error);
    return null;
  }
}

export const undoAcknowledgement = (id: string): Promise<EventDetailOut | null> =>
  told(ask(api.DELETE("/api/v1/events/{event_id}/ack", path(id))), text().undoneBy("").trim());

export const setLock = (id: string, locked: boolean): Promise<EventDetailOut | null> =>
  told(
    ask(api.PUT("/api/v1/events/{event_id}/lock", { ...path(id), body: { locked } })),
    locked ? text().lockedNow : text().unlockedNow,
  );

export const giveFeedback = (id: string, verdict: "normal" | "real"): Promise<EventDetailOut | null> =>
  told(
    ask(api.POST("/api/v1/events/{event_id}/feedback", { ...path(id), body: { verdict, note: "" } })),
    verdict === "normal" ? text().normalNow : text().realNow,
  );

export const mediaUrl = (id: string, kind: string): string => `/api/v1/events/${id}/media/${kind}`;

/** Saves what the filter finds as a file. */
export async function saveExport(query: object, format: "csv" | "jsonl"): Promise<void> {
  const { data, error, response } = await api.GET("/api/v1/events/export", {
    params: { query: { ...query, format } },
    parseAs: "blob",
  });
  if (!response.ok || error !== undefined) await ask(Promise.resolve({ error, response }));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(data as unknown as Blob);
  link.download = `haetae-events.${format}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  toast(text().exported);
}
