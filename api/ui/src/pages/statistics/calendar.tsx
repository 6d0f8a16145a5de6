/** A year of days as a grid: weeks from left to right, Monday at the top, darker where more happened. */
import { useRef, useState } from "preact/hooks";
import type { PeriodOut } from "../../api/schema";
import { language } from "../../i18n";
import { beginName } from "./periods";
import { text } from "./texts";

const LEVELS = 5;

/** 0 for none, then by share of the busiest day but for the few beyond all others. */
function levels(days: readonly PeriodOut[]): (events: number) => number {
  const counts = days.map((one) => one.events).filter((one) => one > 0).sort((a, b) => a - b);
  const high = counts[Math.floor(counts.length * 0.95)] ?? 1;
  return (events) => (events === 0 ? 0 : Math.min(LEVELS - 1, 1 + Math.floor((events / (high + 1)) * (LEVELS - 1))));
}

export function Calendar({ days, onDay }: { days: readonly PeriodOut[]; onDay: (day: string) => void }) {
  const [at, setAt] = useState(days.length - 1);
  const grid = useRef<HTMLDivElement>(null);
  const level = levels(days);
  const first = days[0] ? (new Date(`${days[0].begin}T00:00:00Z`).getUTCDay() + 6) % 7 : 0;
  const weeks = Math.ceil((first + days.length) / 7);
  const tag = language.value === "ko" ? "ko-KR" : "en-GB";
  const month = new Intl.DateTimeFormat(tag, { month: "short", timeZone: "UTC" });
  const weekday = new Intl.DateTimeFormat(tag, { weekday: "short", timeZone: "UTC" });
  const months = days.flatMap((one, index) => (one.begin.endsWith("-01") ? [{ name: month.format(new Date(`${one.begin}T00:00:00Z`)), week: Math.floor((first + index) / 7) }] : []));
  const move = (event: KeyboardEvent): void => {
    const by = { ArrowLeft: -7, ArrowRight: 7, ArrowUp: -1, ArrowDown: 1, Home: -at, End: days.length - 1 - at }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    const to = Math.max(0, Math.min(days.length - 1, at + by));
    setAt(to);
    grid.current?.querySelector<HTMLElement>(`[data-at="${to}"]`)?.focus();
  };
  return (
    <div class="calendar-scroll" tabIndex={-1}>
      <div class="calendar" ref={grid} onKeyDown={move} role="group" aria-label={text().calendar} style={{ gridTemplateColumns: `auto repeat(${weeks}, minmax(0.6875rem, 1fr))` }}>
        {months.map((one) => (
          <span key={`${one.name}${one.week}`} class="month" style={{ gridColumn: `${one.week + 2} / span 3`, gridRow: 1 }}>
            {one.name}
          </span>
        ))}
        {[0, 2, 4].map((day) => (
          <span key={day} class="weekday" style={{ gridColumn: 1, gridRow: day + 2 }}>
            {weekday.format(new Date(Date.UTC(2026, 5, 1 + day)))}
          </span>
        ))}
        {days.map((one, index) => {
          const place = first + index;
          const label = text().day(beginName(one.begin, "day"), one.events, text().looked[one.looked]);
          return (
            <button
              key={one.begin}
              type="button"
              data-at={index}
              tabIndex={index === at ? 0 : -1}
              class={`day l${level(one.events)}${one.looked === "not" && one.events === 0 ? " blind" : ""}`}
              style={{ gridColumn: Math.floor(place / 7) + 2, gridRow: (place % 7) + 2 }}
              aria-label={label}
              title={label}
              onFocus={() => setAt(index)}
              onClick={() => onDay(one.begin)}
            />
          );
        })}
      </div>
      <div class="row small muted scale" aria-hidden>
        {text().less}
        {Array.from({ length: LEVELS }, (_, index) => (
          <i key={index} class={`day l${index}`} />
        ))}
        {text().moreWord}
      </div>
    </div>
  );
}
