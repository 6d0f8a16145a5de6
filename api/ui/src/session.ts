/** Who is logged in; "unknown" until the server has said. */
import { computed, signal } from "@preact/signals";
import { api, ask, dropTokens, refresh, takeTokens, whenOver } from "./api/client";
import type { Me, Role, SetUpState } from "./api/schema";
import { isLanguage, language, setLanguage, timeZone, type Language } from "./i18n";
import { keep, kept } from "./kept";
import { leaveBrowser } from "./push";

export type Phase = "unknown" | "set-up" | "logged-out" | "logged-in";

export const phase = signal<Phase>("unknown");
export const me = signal<Me | null>(null);
export const setUp = signal<SetUpState | null>(null);
/** Why one has to log in again; "" where nothing ended. */
export const ended = signal<"" | "expired" | "logged-out">("");

const RANK: Record<Role, number> = { viewer: 0, operator: 1, admin: 2 };
export const rank = computed(() => (me.value ? RANK[me.value.role] : -1));
export const may = (role: Role): boolean => rank.value >= RANK[role];

whenOver(() => {
  if (phase.value !== "logged-in") return;
  ended.value = "expired";
  leave();
});

function leave(): void {
  dropTokens();
  keep("session", "no");
  me.value = null;
  phase.value = "logged-out";
}

/** Finds out whether there is a session, or an account at all; throws ApiProblem where the server does not answer. */
export async function begin(): Promise<void> {
  const state = await ask(api.GET("/api/v1/auth/state"));
  setUp.value = state;
  if (state.needs_first_account) {
    phase.value = "set-up";
    return;
  }
  // the refresh token is where no script can see it; whether there is one to try is remembered beside it
  if (kept("session") === "yes" && (await refresh())) await enter();
  else phase.value = "logged-out";
}

async function enter(): Promise<void> {
  const found = await ask(api.GET("/api/v1/auth/me"));
  me.value = found;
  timeZone.value = shownZone(found.time_zone);
  if (kept("language") === null && isLanguage(found.language)) language.value = found.language;
  ended.value = "";
  keep("session", "yes");
  phase.value = "logged-in";
}

/** "UTC" is what a server has where nobody said where it stands: then the browser knows better. */
const shownZone = (zone: string): string => (zone === "UTC" ? "" : zone);

export async function logIn(name: string, password: string, code: string): Promise<void> {
  takeTokens(await ask(api.POST("/api/v1/auth/login", { body: { name, password, code, cookie: true } })));
  await enter();
}

export async function logOut(): Promise<void> {
  await leaveBrowser().catch(() => undefined); // a browser that cannot be told no more is logged out all the same
  try {
    await ask(api.POST("/api/v1/auth/logout"));
  } finally {
    ended.value = "logged-out";
    leave();
  }
}

/** In this browser at once, and for whatever else speaks to this user: messages, other browsers. */
export async function chooseLanguage(chosen: Language): Promise<void> {
  setLanguage(chosen);
  if (phase.value === "logged-in") me.value = await ask(api.PATCH("/api/v1/auth/me", { body: { language: chosen } }));
}

/** "" is the browser's. */
export async function chooseTimeZone(zone: string): Promise<void> {
  me.value = await ask(api.PATCH("/api/v1/auth/me", { body: { time_zone: zone } }));
  timeZone.value = shownZone(me.value.time_zone);
}
