/** What was measured of an event: why it was unusual, what moved, where. */
import { useEffect, useState } from "preact/hooks";
import type { EventDetailOut } from "../../api/schema";
import { Table } from "../../components/table";
import { duration, number, percent, roughly } from "../../i18n";
import { reasonText } from "../../i18n/reasons";
import { mediaUrl } from "./actions";
import { text } from "./texts";

/** The `evidence` file: core/events/evidence.py. Parts may be missing where another version wrote it. */
type Track = { speed: number; heading: number; travelled: number; dwell_s: number; still_s: number; age_s: number };
type Evidence = {
  scene?: {
    usual_speed?: number;
    usual_count?: number;
    count_begin?: number;
    count_peak?: number;
    count_end?: number;
    stayed_s?: number;
    changed?: number;
  };
  tracks?: Track[];
  zones?: { name: string; kind: string; inside_s?: number; against_s?: number }[];
};

export function Measured({ detail }: { detail: EventDetailOut }) {
  const { event } = detail;
  const there = detail.media.some((one) => one.kind === "evidence");
  const [evidence, setEvidence] = useState<Evidence | null>(null);
  useEffect(() => {
    setEvidence(null);
    if (!there) return undefined;
    const abort = new AbortController();
    fetch(mediaUrl(event.id, "evidence"), { signal: abort.signal })
      .then(async (response) => response.ok && setEvidence((await response.json()) as Evidence))
      .catch(() => undefined);
    return () => abort.abort();
  }, [event.id, there, event.sequence]);
  const scene = evidence?.scene ?? {};
  const tracks = evidence?.tracks ?? [];
  const zones = evidence?.zones ?? [];
  return (
    <section class="stack tight">
      <h3>{text().unusual}</h3>
      {event.reason && <p class="reason">{reasonText(event.reason)}</p>}
      <p class="small muted">{text().rarity(roughly(10 ** event.peak_score))}</p>
      {evidence && (
        <dl class="facts small">
          <dt>{text().count}</dt>
          <dd>
            {text().countNow(scene.count_begin ?? 0, scene.count_peak ?? 0, scene.count_end ?? 0)}{" "}
            <span class="muted">{text().usualCount(number(scene.usual_count ?? 0, 1))}</span>
          </dd>
          {(scene.usual_speed ?? 0) > 0 && (
            <>
              <dt>{text().usualSpeed}</dt>
              <dd>
                {number(scene.usual_speed ?? 0, 1)} {text().speedUnit}
              </dd>
            </>
          )}
          {(scene.stayed_s ?? 0) >= 5 && (
            <>
              <dt>{text().lasting}</dt>
              <dd>{duration(scene.stayed_s ?? 0)}</dd>
            </>
          )}
          {(scene.changed ?? 0) >= 0.1 && (
            <>
              <dt>{text().changed}</dt>
              <dd>{percent(scene.changed ?? 0)}</dd>
            </>
          )}
          {zones.map((zone) => (
            <>
              <dt>{zone.name}</dt>
              <dd>
                {text().inside(duration(zone.inside_s ?? 0))}
                {(zone.against_s ?? 0) > 0 && `, ${text().against(duration(zone.against_s ?? 0))}`}
              </dd>
            </>
          ))}
        </dl>
      )}
      {tracks.length > 0 && (
        <Table<[number, Track]>
          caption={text().tracks}
          rows={tracks.map((one, index) => [index + 1, one])}
          rowKey={([index]) => String(index)}
          columns={[
            { key: "no", title: text().tracks, cell: ([index]) => text().track(index) },
            {
              key: "speed",
              title: `${text().speed} (${text().speedUnit})`,
              end: true,
              cell: ([, one]) => {
                const usual = scene.usual_speed ?? 0;
                const times = usual > 0 ? one.speed / usual : 0;
                return times >= 1.5 ? <strong>{`${number(one.speed, 1)} (× ${number(times, 1)})`}</strong> : number(one.speed, 1);
              },
            },
            { key: "heading", title: text().heading, end: true, cell: ([, one]) => <Heading degrees={one.heading} /> },
            { key: "went", title: text().travelled, end: true, cell: ([, one]) => text().ofWidth(percent(one.travelled)) },
            { key: "dwell", title: text().dwell, end: true, cell: ([, one]) => duration(one.dwell_s) },
            { key: "age", title: text().seen, end: true, cell: ([, one]) => duration(one.age_s) },
          ]}
        />
      )}
    </section>
  );
}

/** Clockwise from the top of the picture. */
function Heading({ degrees }: { degrees: number }) {
  return (
    <svg width="16" height="16" viewBox="0 0 16 16" role="img" aria-label={`${number(degrees)}°`} class="heading">
      <title>{`${number(degrees)}°`}</title>
      <path d="M8 1.5 12.5 8H9.5v6.5h-3V8h-3z" fill="currentColor" transform={`rotate(${degrees} 8 8)`} />
    </svg>
  );
}
