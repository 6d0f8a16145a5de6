/**
 * Events of each camera over time, and when nothing was judged: a gap is hatched, so that "no events" never looks like
 * "not looking". A picture of the list beside it; whoever cannot see it loses nothing.
 */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { api, ask } from "../../api/client";
import type { EventOut, MinuteOut } from "../../api/schema";
import { Button } from "../../components/button";
import { clockShift, clockTime, dayName, shortTime } from "../../i18n";
import { severities, typeName } from "../../i18n/common";
import { go, withQuery } from "../../router";
import { cameras } from "../../store/cameras";
import { asked as queryOf, begin, filter, readAt } from "./filter";
import { current, events, waiting } from "./list";
import { text } from "./texts";

const MOST = 500;
const ROWS = 12;
const ROW_PX = 26;
const AXIS_PX = 22;
const NAME_PX = 132;
const GAP_MINUTES = 2;
const WEEK_S = 7 * 86_400;
const STEPS_S = [60, 300, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800];
const DRAG_PX = 6;

export function Timeline() {
  const box = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(800);
  const [found, setFound] = useState<readonly EventOut[]>([]);
  const [minutes, setMinutes] = useState<ReadonlyMap<string, readonly MinuteOut[]>>(new Map());
  const [drag, setDrag] = useState<[number, number] | null>(null);
  const of = filter.value;
  const now = readAt.value;
  const to = of.to && !of.within ? Date.parse(of.to) : now + 30_000;
  const asked = Date.parse(begin(of, now)) || to - 86_400_000;
  const rows = useMemo(
    () => (cameras.value ?? []).filter((one) => !of.cameras.length || of.cameras.includes(one.id)).slice(0, ROWS),
    [cameras.value?.map((one) => one.id + one.name).join(), of.cameras.join()],
  );

  useEffect(() => {
    const element = box.current;
    if (!element) return undefined;
    const observer = new ResizeObserver(() => setWidth(element.clientWidth));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  useEffect(() => {
    let over = false;
    const query = { ...queryOf(of, now), from: new Date(asked).toISOString(), limit: MOST };
    ask(api.GET("/api/v1/events", { params: { query } })).then(
      (page) => !over && setFound(page.events),
      () => undefined, // the list tells what is wrong
    );
    return () => {
      over = true;
    };
  }, [of, now]);

  useEffect(() => {
    let over = false;
    setMinutes(new Map());
    if (to - asked <= WEEK_S * 1000)
      for (const camera of rows) {
        const query = { from: new Date(asked).toISOString(), to: new Date(to).toISOString() };
        ask(api.GET("/api/v1/cameras/{camera_id}/scores", { params: { path: { camera_id: camera.id }, query } })).then(
          (one) => !over && setMinutes((before) => new Map(before).set(camera.id, one)),
          () => undefined,
        );
      }
    return () => {
      over = true;
    };
  }, [rows, asked, to]);

  const all = useMemo(() => {
    const byId = new Map([...found, ...events.value, ...waiting.value].map((one) => [one.id, one]));
    return [...byId.values()].filter((one) => Date.parse(one.began_at) >= asked && Date.parse(one.began_at) <= to + 3_600_000);
  }, [found, events.value, waiting.value, asked, to]);
  // where no time was asked for, it begins with what is known
  const first = Math.min(to - 600_000, ...all.map(beganAt), ...[...minutes.values()].map(firstJudged));
  const from = of.within || of.from ? asked : Math.max(asked, first - 0.04 * (to - first));

  const plot = Math.max(100, width - NAME_PX);
  const end = Math.max(to, ...all.map((one) => beganAt(one) + one.duration_s * 1000));
  const x = (at: number): number => NAME_PX + ((at - from) / (end - from)) * plot;
  const time = (px: number): number => from + ((px - NAME_PX) / plot) * (end - from);
  const height = rows.length * ROW_PX + AXIS_PX;

  const place = (event: PointerEvent): number => {
    const left = box.current?.getBoundingClientRect().left ?? 0;
    return Math.min(width, Math.max(NAME_PX, event.clientX - left));
  };
  const release = (): void => {
    if (!drag) return;
    const [a, b] = [Math.min(...drag), Math.max(...drag)];
    setDrag(null);
    if (b - a < DRAG_PX) return;
    const range = { from: new Date(time(a)).toISOString(), to: new Date(time(b)).toISOString(), within: null };
    go(withQuery(range));
  };
  return (
    <section class="timeline card" aria-label={text().timeline} hidden={!rows.length}>
      <div ref={box}>
        <svg
          width={width}
          height={height}
          role="img"
          aria-label={text().timelineAbout}
          onPointerDown={(event) => {
            if (event.button || place(event) <= NAME_PX) return;
            setDrag([place(event), place(event)]);
            event.currentTarget.setPointerCapture(event.pointerId);
          }}
          onPointerMove={(event) => drag && setDrag([drag[0], place(event)])}
          onPointerUp={release}
          onPointerCancel={() => setDrag(null)}
        >
          <defs>
            <pattern id="gap" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
              <rect width="2" height="6" class="timeline-gap" />
            </pattern>
          </defs>
          {ticks(from, end, plot).map((at) => (
            <g key={at}>
              <line class="timeline-tick" x1={x(at)} x2={x(at)} y1={0} y2={height - AXIS_PX} />
              <text class="timeline-time" x={x(at)} y={height - 6} text-anchor="middle">
                {tickText(at, end - from)}
              </text>
            </g>
          ))}
          {rows.map((camera, row) => (
            <g key={camera.id} transform={`translate(0 ${row * ROW_PX})`}>
              <text class="timeline-name" x={0} y={ROW_PX / 2 + 4}>
                {camera.name.length > 17 ? `${camera.name.slice(0, 16)}…` : camera.name}
              </text>
              <line class="timeline-row" x1={NAME_PX} x2={width} y1={ROW_PX} y2={ROW_PX} />
              {gaps(minutes.get(camera.id), from, Math.min(to, Date.now())).map(([a, b]) => (
                <rect key={a} x={x(a)} width={Math.max(1, x(b) - x(a))} y={3} height={ROW_PX - 6} fill="url(#gap)">
                  <title>{`${camera.name}: ${text().notLooking}, ${shortTime(new Date(a))}–${shortTime(new Date(b))}`}</title>
                </rect>
              ))}
              {all
                .filter((one) => one.camera_id === camera.id)
                .map((one) => {
                  const at = Date.parse(one.began_at);
                  const long = Math.max(4, x(at + one.duration_s * 1000) - x(at));
                  return (
                    <rect
                      key={one.id}
                      class={`timeline-event ${one.severity}${one.acknowledged_at ? " done" : ""}${one.id === current.value ? " current" : ""}`}
                      x={x(at)}
                      width={long}
                      y={HEIGHTS[one.severity]}
                      height={ROW_PX - 3 - HEIGHTS[one.severity]}
                      rx={1.5}
                      onClick={() => go(`/events/${one.id}${location.search}`)}
                    >
                      <title>{`${clockTime(one.began_at)} ${typeName(one.vlm_type)}, ${severities()[one.severity]}`}</title>
                    </rect>
                  );
                })}
            </g>
          ))}
          {drag && (
            <rect class="timeline-drag" x={Math.min(...drag)} width={Math.abs(drag[1] - drag[0])} y={0} height={height - AXIS_PX} />
          )}
        </svg>
      </div>
      <div class="row small muted">
        {found.length >= MOST && <span>{text().newestOnly(MOST)}</span>}
        {(of.from || of.to) && !of.within && (
          <Button small onClick={() => go(withQuery({ from: null, to: null }))}>
            {text().clearTime}
          </Button>
        )}
      </div>
    </section>
  );
}

const beganAt = (event: EventOut): number => Date.parse(event.began_at);
const firstJudged = (known: readonly MinuteOut[]): number =>
  Date.parse(known.find((one) => one.highest !== null)?.at ?? "") || Infinity;

/** The worse, the taller: severity does not hang on colour. */
const HEIGHTS = { info: 15, low: 12, medium: 9, high: 6, critical: 2 } as const;

function ticks(from: number, to: number, plot: number): number[] {
  const least = ((to - from) / plot) * 78;
  const step = (STEPS_S.find((one) => one * 1000 >= least) ?? WEEK_S) * 1000;
  const shift = -clockShift(from);
  const made: number[] = [];
  for (let at = Math.ceil((from - shift) / step) * step + shift; at < to; at += step) made.push(at);
  return made;
}

function tickText(at: number, range: number): string {
  const date = new Date(at);
  if (range > 3 * 86_400_000 || (range > 86_400_000 && shortTime(date) === "00:00")) return dayName(date).split(",").at(-1)?.trim() ?? "";
  return shortTime(date);
}

/** Stretches of time in which no minute was judged. */
function gaps(known: readonly MinuteOut[] | undefined, from: number, to: number): [number, number][] {
  if (!known) return [];
  const made: [number, number][] = [];
  let last = from;
  for (const minute of known) {
    if (minute.highest === null) continue;
    const at = Date.parse(minute.at);
    if (at - last > GAP_MINUTES * 60_000) made.push([last, at]);
    last = at + 60_000;
  }
  if (to - last > GAP_MINUTES * 60_000) made.push([last, to]);
  return made;
}
