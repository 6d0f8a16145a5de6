/** The cameras that may be seen, kept current by the feed. */
import { computed, signal } from "@preact/signals";
import { api, ask } from "../api/client";
import type { CameraGroup, CameraOut } from "../api/schema";
import { onLive } from "../live/events";
import { phase } from "../session";

/** Null before they were read. */
export const cameras = signal<readonly CameraOut[] | null>(null);
export const groups = signal<readonly CameraGroup[]>([]);
export const camerasProblem = signal<unknown>(null);
export const camerasById = computed(() => new Map((cameras.value ?? []).map((one) => [one.id, one])));

/** As people call it; its id where it is not there any more. */
export const cameraName = (id: string): string => camerasById.value.get(id)?.name ?? id;

let reading: Promise<void> | null = null;

export function readCameras(): Promise<void> {
  reading ??= (async () => {
    try {
      const [found, foundGroups] = await Promise.all([ask(api.GET("/api/v1/cameras")), ask(api.GET("/api/v1/groups"))]);
      cameras.value = [...found].sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
      groups.value = foundGroups;
      camerasProblem.value = null;
    } catch (error) {
      camerasProblem.value = error;
    } finally {
      reading = null;
    }
  })();
  return reading;
}

onLive("camera", (news) => {
  const known = cameras.peek();
  if (!known) return;
  if (news.gone) {
    cameras.value = known.filter((one) => one.id !== news.camera_id);
  } else if (known.some((one) => one.id === news.camera_id)) {
    cameras.value = known.map((one) => (one.id === news.camera_id ? { ...one, observed: news.observed } : one));
  } else void readCameras();
});
onLive("reset", () => void readCameras());

phase.subscribe((now) => {
  if (now === "logged-in") void readCameras();
  else {
    cameras.value = null;
    groups.value = [];
  }
});
