/** What is looked at: a range of local days, in periods, of some cameras; kept in the address of the page. */
import type { Period } from "../../api/schema";
import { query } from "../../router";

export const RANGES = ["d7", "d30", "d90", "m12", "own"] as const;
export type Range = (typeof RANGES)[number];
const DAYS: Record<Exclude<Range, "own">, number> = { d7: 7, d30: 30, d90: 90, m12: 365 };
const DATE = /^\d{4}-\d{2}-\d{2}$/;

export type Question = {
  range: Range;
  from: string;
  to: string;
  period: Period;
  /** IANA name; "" is the site's. */
  zone: string;
  cameras: readonly string[];
};

/** The day of now in a time zone; the browser's where the name is not known. */
export function today(zone: string): string {
  try {
    return new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", ...(zone ? { timeZone: zone } : {}) }).format(new Date());
  } catch {
    return new Intl.DateTimeFormat("sv-SE", { dateStyle: "short" }).format(new Date());
  }
}

export function daysBefore(day: string, days: number): string {
  const at = new Date(`${day}T00:00:00Z`);
  at.setUTCDate(at.getUTCDate() - days);
  return at.toISOString().slice(0, 10);
}

/** When a local day begins, as an instant (RFC 3339 UTC). */
export function midnight(day: string, zone: string): string {
  const utc = Date.parse(`${day}T00:00:00Z`);
  const shown = new Intl.DateTimeFormat("sv-SE", { timeZone: zone, dateStyle: "short", timeStyle: "medium" }).format(utc);
  const ahead = Date.parse(`${shown.replace(" ", "T")}Z`) - utc;
  return new Date(utc - ahead).toISOString();
}

const length = (from: string, to: string): number => (Date.parse(to) - Date.parse(from)) / 86_400_000 + 1;

export function asked(): Question {
  const given = query.value;
  const zone = given.get("zone") ?? "";
  const range = RANGES.find((one) => one === given.get("range")) ?? "d30";
  const now = today(zone);
  const own = range === "own" && DATE.test(given.get("from") ?? "") && DATE.test(given.get("to") ?? "");
  const to = own ? (given.get("to") ?? now) : now;
  const from = own ? (given.get("from") ?? now) : daysBefore(now, DAYS[range === "own" ? "d30" : range] - 1);
  const wanted = given.get("period");
  const long = length(from, to);
  const usual: Period = long <= 62 ? "day" : long <= 200 ? "week" : "month";
  const period = wanted === "day" || wanted === "week" || wanted === "month" ? wanted : usual;
  return { range, from, to, period: period === "day" && long > 750 ? "week" : period, zone, cameras: given.getAll("camera") };
}
