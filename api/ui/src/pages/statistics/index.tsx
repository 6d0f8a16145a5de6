import { useEffect } from "preact/hooks";
import { api, ask } from "../../api/client";
import type { PeriodOut, StatisticsOut, Trend, TrendOut } from "../../api/schema";
import { Segments } from "../../components/button";
import { Figure } from "../../components/figure";
import { Icon } from "../../components/icons";
import { Show } from "../../components/loaded";
import { Menu } from "../../components/menu";
import { Empty } from "../../components/states";
import { Table } from "../../components/table";
import { failed } from "../../components/toast";
import { duration, language, number, percent } from "../../i18n";
import { typeName } from "../../i18n/common";
import { onLive } from "../../live/events";
import { useLoad } from "../../load";
import { go, withQuery } from "../../router";
import { csv, saveFile } from "../../save-file";
import { me } from "../../session";
import { cameraName, cameras } from "../../store/cameras";
import { Calendar } from "./calendar";
import { Periods } from "./periods";
import { asked, daysBefore, midnight, RANGES, today, type Question, type Range } from "./range";
import "./statistics.css";
import { text } from "./texts";

const YEAR = 371;

const put = (changes: Record<string, string | readonly string[] | null>): void => go(withQuery(changes), { replace: true });

export default function Statistics() {
  const question = asked();
  const { from, to, period, zone } = question;
  const camera_id = [...question.cameras];
  const common = { ...(zone ? { time_zone: zone } : {}), ...(camera_id.length ? { camera_id } : {}) };
  const key = JSON.stringify([from, to, period, common]);
  const found = useLoad(async () => {
    const params = { query: { period, from, to, ...common } };
    const [figures, trends] = await Promise.all([ask(api.GET("/api/v1/stats", { params })), ask(api.GET("/api/v1/stats/trends", { params }))]);
    return { figures, trends };
  }, key);
  const last = today(zone);
  const year = useLoad(
    async () => ask(api.GET("/api/v1/stats", { params: { query: { period: "day", from: daysBefore(last, YEAR - 1), to: last, ...common } } })),
    JSON.stringify([last, common]),
  );
  useEffect(
    () =>
      onLive("statistics", () => {
        void found.reload();
        void year.reload();
      }),
    [],
  );
  return (
    <div class="page">
      <div class="page-head">
        <h1>{text().title}</h1>
        {found.data && <Export question={question} figures={found.data.figures} trends={found.data.trends} />}
      </div>
      <Controls question={question} site={found.data?.figures.time_zone} />
      <Show of={found}>{({ figures, trends }) => <Figures figures={figures} trends={trends} period={period} />}</Show>
      <section class="card stack tight">
        <h2>{text().calendar}</h2>
        <p class="muted small">{text().calendarHint}</p>
        <Show of={year}>
          {(days) => <Calendar days={days.periods} onDay={(day) => put({ range: "own", from: day, to: day, period: null })} />}
        </Show>
      </section>
    </div>
  );
}

// ---- what is looked at

const ZONES = Intl.supportedValuesOf("timeZone");

function Controls({ question, site }: { question: Question; site: string | undefined }) {
  const { range, from, to, period, zone } = question;
  const own = me.value?.time_zone ?? "";
  const first = [...new Set([own, Intl.DateTimeFormat().resolvedOptions().timeZone, "UTC"])].filter(Boolean);
  const all = cameras.value ?? [];
  return (
    <div class="row wrap controls">
      <Segments<Range>
        label={text().range}
        value={range}
        onChange={(value) => put({ range: value, period: null, ...(value === "own" ? { from, to } : { from: null, to: null }) })}
        options={RANGES.map((one) => ({ value: one, label: text().ranges[one] }))}
      />
      {range === "own" && (
        <span class="row">
          <input class="input" type="date" aria-label={text().from} value={from} max={to} onChange={(event) => event.currentTarget.value && put({ from: event.currentTarget.value })} />
          <span aria-hidden>–</span>
          <input class="input" type="date" aria-label={text().to} value={to} min={from} onChange={(event) => event.currentTarget.value && put({ to: event.currentTarget.value })} />
        </span>
      )}
      <Segments
        label={text().period}
        value={period}
        onChange={(value) => put({ period: value })}
        options={(["day", "week", "month"] as const).map((one) => ({ value: one, label: text().periods[one] }))}
      />
      <select class="input auto" aria-label={text().zone} value={zone} onChange={(event) => put({ zone: event.currentTarget.value })}>
        <option value="">{text().siteZone(zone ? "…" : (site ?? "…"))}</option>
        {first.map((one) => (
          <option key={one} value={one}>
            {one}
          </option>
        ))}
        <optgroup label="IANA">
          {ZONES.filter((one) => !first.includes(one)).map((one) => (
            <option key={one} value={one}>
              {one}
            </option>
          ))}
        </optgroup>
      </select>
      <Menu
        label={question.cameras.length === 0 ? text().allCameras : question.cameras.length === 1 ? cameraName(question.cameras[0] ?? "") : text().chosen(question.cameras.length)}
        icon="cameras"
      >
        {all.map((one) => (
          <label key={one.id} class="check">
            <input
              type="checkbox"
              checked={question.cameras.includes(one.id)}
              onChange={(event) => put({ camera: event.currentTarget.checked ? [...question.cameras, one.id] : question.cameras.filter((id) => id !== one.id) })}
            />
            <span>{one.name}</span>
          </label>
        ))}
      </Menu>
    </div>
  );
}

// ---- figures

function Figures({ figures, trends, period }: { figures: StatisticsOut; trends: TrendOut; period: Question["period"] }) {
  const { total } = figures;
  return (
    <>
      <div class="tiles">
        <Figure of={text().events} beside={<Change trend={trends.all} />}>
          {number(total.events)}
        </Figure>
        {trends.all.usual !== null && (
          <Figure of={text().usual} beside={text().usualHint}>
            {number(trends.all.usual)}
          </Figure>
        )}
        <Figure of={text().coverage} beside={total.coverage === null ? text().noCamera : text().coverageOf(duration(total.watched_s), duration(total.expected_s))}>
          {total.coverage === null ? "–" : percent(total.coverage)}
        </Figure>
        <Figure of={text().highest} beside={`${text().lasted} ${duration(total.duration_s)}`}>
          {total.events ? number(total.peak_score, 1) : "–"}
        </Figure>
      </div>
      <Periods periods={figures.periods} period={period} />
      {total.events === 0 ? (
        <Empty icon="statistics" title={text().none}>
          {total.watched_s > 0 ? text().noneWatched : text().noneBlind}
        </Empty>
      ) : (
        <div class="grid-2 wide-columns">
          <section class="card stack tight">
            <h2>{text().byType}</h2>
            <Shares counts={total.by_type} name={typeName} of={total.events} />
          </section>
          <section class="stack tight">
            <h2 class="inset">{text().byCamera}</h2>
            <Table
              caption={text().byCamera}
              rows={rowsOf(total, trends)}
              rowKey={(one) => one.id}
              columns={[
                { key: "name", title: text().camera, cell: (one) => cameraName(one.id) },
                { key: "events", title: text().events, end: true, cell: (one) => number(one.events) },
                { key: "change", title: text().change, end: true, cell: (one) => (one.trend ? <Change trend={one.trend} short /> : "") },
              ]}
            />
          </section>
        </div>
      )}
    </>
  );
}

function rowsOf(total: PeriodOut, trends: TrendOut): { id: string; events: number; trend: Trend | undefined }[] {
  const ids = [...new Set([...Object.keys(total.by_camera), ...Object.keys(trends.by_camera)])];
  return ids.map((id) => ({ id, events: total.by_camera[id] ?? 0, trend: trends.by_camera[id] })).sort((a, b) => b.events - a.events);
}

function Change({ trend, short }: { trend: Trend; short?: boolean }) {
  const { change, before } = trend;
  if (change === null) return <span class="muted">{short ? "–" : text().noBefore}</span>;
  const words = change === 0 ? text().same : change > 0 ? text().more(percent(change)) : text().fewer(percent(-change));
  return (
    <span class="row change">
      {change !== 0 && <Icon name={change > 0 ? "up" : "down"} size={14} />}
      <span>
        {words}
        {!short && <span class="muted"> · {text().before(number(before))}</span>}
      </span>
    </span>
  );
}

function Shares({ counts, name, of }: { counts: Readonly<Record<string, number>>; name: (key: string) => string; of: number }) {
  return (
    <ul class="shares">
      {Object.entries(counts)
        .sort((a, b) => b[1] - a[1])
        .map(([key, count]) => (
          <li key={key}>
            <span class="cut">{name(key)}</span>
            <span class="bar" aria-hidden>
              <i style={{ width: `${(100 * count) / of}%` }} />
            </span>
            <span class="num">{number(count)}</span>
          </li>
        ))}
    </ul>
  );
}

// ---- export

function Export({ question, figures, trends }: { question: Question; figures: StatisticsOut; trends: TrendOut }) {
  const name = `haetae-${question.from}-${question.to}`;
  const table = (): void => {
    const periods = [...figures.periods, { ...figures.total, begin: "total" }];
    const types = Object.keys(figures.total.by_type);
    const severities = ["info", "low", "medium", "high", "critical"];
    const ids = Object.keys(figures.total.by_camera);
    const head = ["begin", "events", ...severities, ...types, ...ids.map((id) => `camera ${id}`), "peak_score", "duration_s", "watched_s", "expected_s", "coverage", "looked", "partial"];
    const rows = periods.map((one) => [
      one.begin,
      one.events,
      ...severities.map((key) => one.by_severity[key] ?? 0),
      ...types.map((key) => one.by_type[key] ?? 0),
      ...ids.map((key) => one.by_camera[key] ?? 0),
      one.peak_score,
      one.duration_s,
      one.watched_s,
      one.expected_s,
      one.coverage,
      one.looked,
      one.partial,
    ]);
    saveFile(`${name}.csv`, "text/csv", csv([head, ...rows]));
  };
  const events = async (): Promise<void> => {
    const some = question.cameras.length ? { camera_id: [...question.cameras] } : {};
    const from = midnight(question.from, figures.time_zone);
    const query = { format: "csv" as const, from, to: midnight(daysBefore(question.to, -1), figures.time_zone), ...some };
    const { data, response } = await api.GET("/api/v1/events/export", { params: { query }, parseAs: "blob" });
    if (response.ok) saveFile(`${name}-events.csv`, "text/csv", data as unknown as Blob);
    else failed(new Error(response.statusText));
  };
  return (
    <Menu label={text().exportAs} icon="download" key={language.value}>
      <button type="button" onClick={table}>
        {text().csv}
      </button>
      <button type="button" onClick={() => saveFile(`${name}.json`, "application/json", JSON.stringify({ ...figures, trends }, null, 2))}>
        {text().json}
      </button>
      <button type="button" onClick={() => void events().catch(failed)}>
        {text().eventsCsv}
      </button>
    </Menu>
  );
}
