/** Events by day, week or month, stacked; under each bar, how much of the time was watched. */
import { useState } from "preact/hooks";
import type { Period, PeriodOut, Severity } from "../../api/schema";
import { Segments } from "../../components/button";
import { Table } from "../../components/table";
import { language, number, percent } from "../../i18n";
import { severities, typeName } from "../../i18n/common";
import { cameraName } from "../../store/cameras";
import { text } from "./texts";

type Split = "severity" | "type" | "camera";
type Series = { key: string; name: string; colour: string };

const ORDER: readonly Severity[] = ["info", "low", "medium", "high", "critical"];
const PALETTE = ["--c1", "--c2", "--c3", "--c4", "--c5", "--c6"];
const W = 1000;
const H = 220;
const LEFT = 34;
const STRIP = 6;

const countsOf = (period: PeriodOut, split: Split): Readonly<Record<string, number>> =>
  split === "severity" ? period.by_severity : split === "type" ? period.by_type : period.by_camera;

function seriesOf(periods: readonly PeriodOut[], split: Split): Series[] {
  if (split === "severity") return ORDER.map((key) => ({ key, name: severities()[key], colour: `var(--${key})` }));
  const sums = new Map<string, number>();
  for (const period of periods)
    for (const [key, count] of Object.entries(countsOf(period, split))) sums.set(key, (sums.get(key) ?? 0) + count);
  const most = [...sums].sort((a, b) => b[1] - a[1]).slice(0, PALETTE.length);
  const name = split === "type" ? typeName : cameraName;
  const series = most.map(([key], index) => ({ key, name: name(key), colour: `var(${PALETTE[index] ?? "--c1"})` }));
  return sums.size > most.length ? [...series, { key: "", name: text().other, colour: "var(--line-strong)" }] : series;
}

/** The other series hold what no series of its own holds. */
function parts(period: PeriodOut, split: Split, series: readonly Series[]): number[] {
  const counts = countsOf(period, split);
  const known = series.map((one) => (one.key ? (counts[one.key] ?? 0) : 0));
  const rest = period.events - known.reduce((sum, one) => sum + one, 0);
  return series.map((one, index) => (one.key ? (known[index] ?? 0) : Math.max(0, rest)));
}

/** 1, 2 or 5 times a power of ten, four of which hold the most. */
function stepOf(most: number): number {
  const raw = Math.max(1, most / 4);
  const power = 10 ** Math.floor(Math.log10(raw));
  return ([1, 2, 5, 10].find((one) => one * power >= raw) ?? 10) * power;
}

export function beginName(begin: string, period: Period): string {
  const tag = language.value === "ko" ? "ko-KR" : "en-GB";
  const at = new Date(`${begin}T00:00:00Z`);
  const options: Intl.DateTimeFormatOptions = period === "month" ? { year: "numeric", month: "short" } : { day: "numeric", month: "short", ...(period === "day" ? { weekday: "short" } : {}) };
  return new Intl.DateTimeFormat(tag, { ...options, timeZone: "UTC" }).format(at);
}

function shortName(begin: string, period: Period): string {
  const tag = language.value === "ko" ? "ko-KR" : "en-GB";
  const options: Intl.DateTimeFormatOptions = period === "month" ? { month: "short" } : { day: "numeric", month: "numeric" };
  return new Intl.DateTimeFormat(tag, { ...options, timeZone: "UTC" }).format(new Date(`${begin}T00:00:00Z`));
}

export function Periods({ periods, period }: { periods: readonly PeriodOut[]; period: Period }) {
  const [split, setSplit] = useState<Split>("severity");
  const series = seriesOf(periods, split);
  const most = Math.max(...periods.map((one) => one.events), 1);
  const step = stepOf(most);
  const top = Math.ceil(most / step) * step;
  const slot = (W - LEFT) / periods.length;
  const width = Math.min(44, slot * 0.72);
  const every = Math.ceil(periods.length / 12);
  const y = (count: number): number => H - (count / top) * H;
  return (
    <section class="card stack">
      <div class="card-head">
        <h2>{text().chart}</h2>
        <Segments<Split>
          label={text().split}
          value={split}
          onChange={setSplit}
          options={(["severity", "type", "camera"] as const).map((one) => ({ value: one, label: text().splits[one] }))}
        />
      </div>
      <svg class="bars" viewBox={`0 -10 ${W} ${H + 48}`} role="img" aria-label={text().chart}>
        {Array.from({ length: Math.round(top / step) + 1 }, (_, index) => (
          <g key={index}>
            <line x1={LEFT} x2={W} y1={y(index * step)} y2={y(index * step)} class={index === 0 ? "base" : "grid"} />
            <text x={LEFT - 8} y={y(index * step) + 4} text-anchor="end">
              {number(index * step)}
            </text>
          </g>
        ))}
        {periods.map((one, index) => {
          const x = LEFT + index * slot + (slot - width) / 2;
          let below = 0;
          const title = `${beginName(one.begin, period)}: ${number(one.events)} ${text().events}, ${text().looked[one.looked]}${one.partial ? `, ${text().partial}` : ""}`;
          return (
            <g key={one.begin} class={one.partial ? "partial" : ""}>
              <title>{title}</title>
              <rect x={LEFT + index * slot} y={-10} width={slot} height={H + 24} class="hit" />
              {parts(one, split, series).map((count, part) => {
                const height = (count / top) * H;
                below += height;
                return count > 0 && <rect key={part} x={x} y={H - below} width={width} height={Math.max(1, height - (height > 4 ? 1 : 0))} rx={1.5} style={{ fill: series[part]?.colour ?? "" }} />;
              })}
              <rect x={x} y={H + 5} width={width} height={STRIP} rx={2} class="strip" />
              {one.coverage !== null && one.coverage > 0 && <rect x={x} y={H + 5} width={Math.max(1.5, width * one.coverage)} height={STRIP} rx={2} class={`strip ${one.looked}`} />}
              {index % every === 0 && (
                <text x={x + width / 2} y={H + 30} text-anchor="middle">
                  {shortName(one.begin, period)}
                </text>
              )}
            </g>
          );
        })}
      </svg>
      <ul class="legend">
        {series.map((one) => (
          <li key={one.key} class="row">
            <i style={{ background: one.colour }} />
            {one.name}
          </li>
        ))}
        <li class="row">
          <i class="watched" />
          {text().watchedStrip}
        </li>
      </ul>
      <details>
        <summary>{text().table}</summary>
        <Table
          caption={text().tableOf}
          rows={periods}
          rowKey={(one) => one.begin}
          columns={[
            { key: "begin", title: text().begin, cell: (one) => `${beginName(one.begin, period)}${one.partial ? ` (${text().partial})` : ""}` },
            { key: "events", title: text().events, end: true, cell: (one) => number(one.events) },
            ...series.map((column, index) => ({ key: column.key || "other", title: column.name, end: true, cell: (one: PeriodOut) => number(parts(one, split, series)[index] ?? 0) })),
            { key: "coverage", title: text().coverage, end: true, cell: (one) => (one.coverage === null ? "–" : percent(one.coverage)) },
          ]}
        />
      </details>
    </section>
  );
}
