/** Being told in this browser while no page is open (Web Push). */
import { api, ask } from "./api/client";
import type { Browsers } from "./api/schema";
import { keep, kept } from "./kept";
import { register } from "./offline";

/** Why this browser cannot be asked; "" where it can. */
export function hindrance(): "" | "insecure" | "unable" | "denied" {
  if (!window.isSecureContext) return "insecure";
  if (!("serviceWorker" in navigator) || !("PushManager" in window) || !("Notification" in window)) return "unable";
  return Notification.permission === "denied" ? "denied" : "";
}

/** The id under which the server knows this browser, "" where it is not told. */
export async function ownId(known: Browsers): Promise<string> {
  const id = kept("browser") ?? "";
  if (hindrance() || !known.browsers.some((one) => one.id === id)) return "";
  const registration = await navigator.serviceWorker.getRegistration();
  return (await registration?.pushManager.getSubscription()) ? id : "";
}

/** Asks the person, then the browser, then the server; false where the person said no. */
export async function switchOn(publicKey: string): Promise<boolean> {
  if ((await Notification.requestPermission()) !== "granted") return false;
  await register(); // where that fails, `ready` would never come
  const { pushManager } = await navigator.serviceWorker.ready;
  // of another key, where the site's was made anew
  await (await pushManager.getSubscription())?.unsubscribe();
  const made = await pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: publicKey });
  const { endpoint, keys } = made.toJSON();
  const body = { endpoint: endpoint ?? "", p256dh: keys?.["p256dh"] ?? "", auth: keys?.["auth"] ?? "" };
  try {
    keep("browser", (await ask(api.POST("/api/v1/auth/browsers", { body }))).id);
  } catch (error) {
    await made.unsubscribe();
    throw error;
  }
  return true;
}

/** This browser shows nothing more, whatever the server still thinks. */
export async function switchOff(): Promise<void> {
  if (!("serviceWorker" in navigator) || !("PushManager" in window)) return;
  const registration = await navigator.serviceWorker.getRegistration();
  await (await registration?.pushManager.getSubscription())?.unsubscribe();
}

/** When somebody logs out, with which the server forgets it: whoever comes next does not read their alarms. */
export async function leaveBrowser(): Promise<void> {
  if (!kept("browser")) return;
  keep("browser", "");
  await switchOff();
}
