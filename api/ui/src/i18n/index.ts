/**
 * Texts in English and Korean, beside the page that shows them.
 *
 *     const text = messages({ title: "Wall" }, { title: "관제" });
 *     <h1>{text().title}</h1>
 *
 * The Korean record has exactly the keys of the English one: a missing, wrong or left-over key does not compile.
 */
import { computed, effect, signal } from "@preact/signals";
import { keep, kept } from "../kept";

export type Language = "en" | "ko";
type Text = string | ((...values: never[]) => string);
export type Texts = { readonly [key: string]: Text | Texts };
export type Same<T extends Texts> = { readonly [K in keyof T]: T[K] extends string ? string : T[K] extends Texts ? Same<T[K]> : T[K] };

const LANGUAGES: readonly Language[] = ["en", "ko"];

function preferred(): Language {
  const chosen = kept("language");
  if (chosen === "en" || chosen === "ko") return chosen;
  return navigator.languages.find((one) => /^(en|ko)\b/i.test(one))?.toLowerCase().startsWith("ko") ? "ko" : "en";
}

export const language = signal<Language>(preferred());

effect(() => {
  document.documentElement.lang = language.value;
});

export function setLanguage(chosen: Language): void {
  keep("language", chosen);
  language.value = chosen;
}

export function isLanguage(value: string): value is Language {
  return (LANGUAGES as readonly string[]).includes(value);
}

/** The texts of one page in the language of now; reading them in a component renders it anew when that changes. */
export function messages<const T extends Texts>(en: T, ko: Same<T>): () => Same<T> {
  return () => (language.value === "ko" ? ko : (en as unknown as Same<T>));
}

// ---- numbers and times, as the reader writes them

const tag = computed(() => (language.value === "ko" ? "ko-KR" : "en-GB"));
const known = new Map<string, Intl.DateTimeFormat>();

function format(name: string, options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  const key = `${tag.value} ${name} ${timeZone.value}`;
  let found = known.get(key);
  if (!found) {
    const zone = timeZone.value ? { timeZone: timeZone.value } : {};
    found = new Intl.DateTimeFormat(tag.value, { hourCycle: "h23", ...zone, ...options });
    known.set(key, found);
  }
  return found;
}

/** IANA name whose wall clock is shown; "" is the browser's. */
export const timeZone = signal("");

/** Milliseconds by which the shown wall clock is ahead of UTC at that time. */
function ahead(at: Date): number {
  if (!timeZone.value) return -at.getTimezoneOffset() * 60_000;
  const parts = new Intl.DateTimeFormat("en-US", {
    timeZone: timeZone.value,
    hourCycle: "h23",
    year: "numeric",
    month: "numeric",
    day: "numeric",
    hour: "numeric",
    minute: "numeric",
    second: "numeric",
  }).formatToParts(at);
  const part = (type: string): number => Number(parts.find((one) => one.type === type)?.value);
  const wall = Date.UTC(part("year"), part("month") - 1, part("day"), part("hour"), part("minute"), part("second"));
  return wall - Math.floor(at.getTime() / 1000) * 1000;
}

/** For <input type="datetime-local">: the shown wall clock, to the minute. */
export function wallClock(at: string): string {
  if (!at) return "";
  const date = new Date(at);
  return new Date(date.getTime() + ahead(date)).toISOString().slice(0, 16);
}

/** What such a field says, as RFC 3339 UTC; "" for nothing. */
export function fromWallClock(written: string): string {
  if (!written) return "";
  const wall = Date.parse(`${written}Z`);
  const first = new Date(wall - ahead(new Date(wall)));
  return new Date(wall - ahead(first)).toISOString(); // once more, for the hours around a change of the clock
}

/** Midnight and even hours of the shown clock: milliseconds that a tick of a time axis is to be moved by. */
export const clockShift = (at: number): number => ahead(new Date(at));

export const clockTime = (at: string | Date): string =>
  format("clock", { hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(new Date(at));
export const shortTime = (at: string | Date): string =>
  format("short", { hour: "2-digit", minute: "2-digit" }).format(new Date(at));
export const dayName = (at: string | Date): string =>
  format("day", { weekday: "long", day: "numeric", month: "long" }).format(new Date(at));
export const dateTime = (at: string | Date): string =>
  format("full", { dateStyle: "medium", timeStyle: "medium" }).format(new Date(at));
/** 2026-11-26, of the shown time zone: to tell days apart. */
export const dayKey = (at: string | Date): string => {
  const key = `iso ${timeZone.value}`;
  let found = known.get(key);
  if (!found) {
    const zone = timeZone.value ? { timeZone: timeZone.value } : {};
    found = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", ...zone });
    known.set(key, found);
  }
  return found.format(new Date(at));
};

export const number = (value: number, digits = 0): string =>
  new Intl.NumberFormat(tag.value, { maximumFractionDigits: digits, minimumFractionDigits: digits }).format(value);
export const percent = (share: number): string =>
  new Intl.NumberFormat(tag.value, { style: "percent", maximumFractionDigits: 0 }).format(share);

/** A large number as it is said: 5,000; 3.2 million. */
export const roughly = (value: number): string =>
  new Intl.NumberFormat(tag.value, value < 1e6 ? { maximumSignificantDigits: 2 } : { notation: "compact", compactDisplay: "long", maximumSignificantDigits: 2 }).format(value);

/** "4 s", "2 min 5 s", "3 h 10 min". */
export function duration(seconds: number): string {
  const ko = language.value === "ko";
  const [h, m, s] = ko ? ["시간", "분", "초"] : [" h", " min", " s"];
  const whole = Math.round(seconds);
  if (seconds < 10) return `${number(seconds, 1)}${s}`;
  if (whole < 60) return `${whole}${s}`;
  if (whole < 3600) return whole % 60 ? `${Math.floor(whole / 60)}${m} ${whole % 60}${s}` : `${whole / 60}${m}`;
  const minutes = Math.round(whole / 60);
  return minutes % 60 ? `${Math.floor(minutes / 60)}${h} ${minutes % 60}${m}` : `${minutes / 60}${h}`;
}

/** "just now", "5 minutes ago". */
export function ago(at: string | Date, now: number): string {
  const seconds = Math.round((new Date(at).getTime() - now) / 1000);
  const relative = new Intl.RelativeTimeFormat(tag.value, { numeric: "auto" });
  if (seconds > -10) return relative.format(0, "second");
  if (seconds > -90) return relative.format(seconds, "second");
  if (seconds > -5400) return relative.format(Math.round(seconds / 60), "minute");
  if (seconds > -129_600) return relative.format(Math.round(seconds / 3600), "hour");
  return relative.format(Math.round(seconds / 86_400), "day");
}
