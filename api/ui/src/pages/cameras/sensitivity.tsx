/** How sensitive a camera is, as so many false alarms a day: what that means now, and would have meant last week. */
import { useEffect, useState } from "preact/hooks";
import { api, ask } from "../../api/client";
import type { CameraOut, SensitivityOut } from "../../api/schema";
import { Button } from "../../components/button";
import { CheckBox, useSubmit } from "../../components/field";
import { Figure } from "../../components/figure";
import { Show } from "../../components/loaded";
import { Notice } from "../../components/states";
import { Table } from "../../components/table";
import { toast } from "../../components/toast";
import { dateTime, duration, messages, number } from "../../i18n";
import { common } from "../../i18n/common";
import { useLoad } from "../../load";
import { may } from "../../session";
import { changed } from "./actions";
import { Histogram } from "./histogram";

const text = messages(
  {
    title: "How many false alarms a day are tolerable?",
    lead: "The threshold follows by itself: it is where so many events a day are to be expected of what is normal here. Fewer false alarms mean that weaker anomalies are missed.",
    perDay: (count: string) => `${count} a day`,
    perWeek: (count: string) => `${count} a week`,
    never: "Threshold as configured",
    fewer: "Fewer alarms",
    more: "More sensitive",
    asSite: (count: string) => `As all cameras of the site (${count})`,
    stages: { learning: "Too little was watched to promise anything: the configured threshold holds.", provisional: "Provisional: too few events to be sure.", armed: "Promised by what was watched." },
    now: "Threshold now",
    expected: "To be expected",
    interval: (low: string, high: string) => `95 %: ${low} to ${high} a day`,
    lastWeek: "Last 7 days with it",
    instead: (before: string, time: string) => `instead of ${before}, in ${time} watched`,
    events: "events",
    histogram: "Scores of the last 7 days",
    histogramHint: "How long the score was how high. What lies beyond the line would have been events.",
    would: "What there would have been",
    wouldHint: "By the scores that are kept, second by second; the newest first.",
    tooLittle: "Less than half an hour of scores is kept: too little to say what would have been. Come back when it has watched for a while.",
    at: "When",
    lasted: "How long",
    peak: "Highest score",
    save: "Use it",
    threshold: (value: string) => `threshold ${value}`,
    viewOnly: "Only administrators change it.",
  },
  {
    title: "하루에 오경보를 몇 번까지 허용할까요?",
    lead: "기준값은 스스로 맞춰집니다. 이곳의 정상 상황에서 하루에 그만큼의 이벤트가 예상되는 값입니다. 오경보를 줄이면 약한 이상을 놓칠 수 있습니다.",
    perDay: (count: string) => `하루 ${count}회`,
    perWeek: (count: string) => `일주일 ${count}회`,
    never: "설정된 기준값 사용",
    fewer: "경보 적게",
    more: "더 민감하게",
    asSite: (count: string) => `현장의 모든 카메라와 같게(${count})`,
    stages: { learning: "감시한 시간이 너무 짧아 약속할 수 없습니다. 설정된 기준값을 씁니다.", provisional: "임시: 이벤트가 적어 확실하지 않습니다.", armed: "감시한 내용으로 약속합니다." },
    now: "현재 기준값",
    expected: "예상",
    interval: (low: string, high: string) => `95%: 하루 ${low}~${high}회`,
    lastWeek: "최근 7일에 적용하면",
    instead: (before: string, time: string) => `기존 ${before}건, 감시 ${time}`,
    events: "건",
    histogram: "최근 7일 점수 분포",
    histogramHint: "점수가 얼마나 오래 그 높이였는지 보여 줍니다. 선을 넘은 부분이 이벤트가 됩니다.",
    would: "있었을 이벤트",
    wouldHint: "초 단위로 저장된 점수로 계산했습니다. 최신순.",
    tooLittle: "저장된 점수가 30분이 안 되어 아직 알 수 없습니다. 조금 더 감시한 뒤 다시 확인하세요.",
    at: "시각",
    lasted: "지속 시간",
    peak: "최고 점수",
    save: "적용",
    threshold: (value: string) => `기준값 ${value}`,
    viewOnly: "관리자만 바꿀 수 있습니다.",
  },
);

/** From once in ten weeks to a hundred a day, even steps of a slider; a number between stays as it is. */
const STEPS = [0.0143, 0.0286, 0.0714, 0.143, 0.286, 0.5, 1, 2, 3, 4, 6, 8, 12, 16, 24, 36, 48, 72, 100] as const;

const nearest = (perDay: number): number =>
  STEPS.reduce((best, one, index) => (Math.abs(Math.log(one / perDay)) < Math.abs(Math.log((STEPS[best] ?? 1) / perDay)) ? index : best), 0);

const digits = (value: number): number => (value >= 10 || Number.isInteger(value) ? 0 : 1);
export function perDayWords(perDay: number): string {
  if (perDay === 0) return text().never;
  return perDay < 0.5 ? text().perWeek(number(perDay * 7, digits(Math.round(perDay * 70) / 10))) : text().perDay(number(perDay, digits(perDay)));
}

const SETTLE_MS = 350;
/** Of the events that there would have been, so many are listed. */
const SHOWN = 25;

export function Sensitivity({ camera, onChange }: { camera: CameraOut; onChange: (camera: CameraOut) => void }) {
  const own = camera.settings.false_events_per_day;
  const [perDay, setPerDay] = useState<number | null>(own);
  const [asked, setAsked] = useState<number | null>(own);
  useEffect(() => {
    const timer = setTimeout(() => setAsked(perDay), SETTLE_MS);
    return () => clearTimeout(timer);
  }, [perDay]);
  const found = useLoad(
    () => ask(api.GET("/api/v1/cameras/{camera_id}/sensitivity", { params: { path: { camera_id: camera.id }, query: { days: 7, ...(asked === null ? {} : { per_day: asked }) } } })),
    "",
  );
  useEffect(() => void found.reload(), [asked]);
  return (
    <Show of={found}>
      {(data) => <Shown camera={camera} found={data} perDay={perDay} fresh={asked === perDay} onPerDay={setPerDay} onChange={onChange} />}
    </Show>
  );
}

function Shown(props: {
  camera: CameraOut;
  found: SensitivityOut;
  perDay: number | null;
  fresh: boolean;
  onPerDay: (perDay: number | null) => void;
  onChange: (camera: CameraOut) => void;
}) {
  const { camera, found, perDay } = props;
  const site = found.site_per_day;
  const value = perDay ?? site;
  const fixed = !may("admin");
  const { busy, error, submit } = useSubmit(async () => {
    const settings = { ...camera.settings, false_events_per_day: perDay };
    props.onChange(await changed(api.PATCH("/api/v1/cameras/{camera_id}", { params: { path: { camera_id: camera.id } }, body: { settings } })));
    toast(common().saved);
  });
  const enough = found.watched_s >= 1800;
  const now = found.now;
  return (
    <>
      <section class="card stack">
        <div class="card-head">
          <h2>{text().title}</h2>
          <output class="figure">{perDayWords(value)}</output>
        </div>
        <p class="muted measure">{text().lead}</p>
        <div class="stack tight">
          <input
            type="range"
            min={0}
            max={STEPS.length - 1}
            step={1}
            value={nearest(value || 24)}
            disabled={fixed}
            aria-label={text().title}
            aria-valuetext={perDayWords(value)}
            onInput={(event) => props.onPerDay(STEPS[Number(event.currentTarget.value)] ?? null)}
          />
          <div class="row between muted small">
            <span>{text().fewer}</span>
            <span>{text().more}</span>
          </div>
        </div>
        <CheckBox label={text().asSite(perDayWords(site))} checked={perDay === null} disabled={fixed} onValue={(on) => props.onPerDay(on ? null : site || 24)} />
        {error && <Notice kind="bad">{error}</Notice>}
        {fixed ? (
          <p class="muted small">{text().viewOnly}</p>
        ) : (
          <div class="row">
            <Button kind="primary" busy={busy} disabled={perDay === camera.settings.false_events_per_day} onClick={() => void submit()}>
              {text().save}
            </Button>
          </div>
        )}
      </section>
      <div class="tiles">
        <Figure of={text().now} beside={text().stages[now?.stage ?? "learning"]}>
          {number(now?.open_score ?? found.tried.open_score, 2)}
        </Figure>
        {now && now.stage !== "learning" && (
          <Figure of={text().expected} beside={text().interval(number(now.low_per_day, 1), number(now.high_per_day, 1))}>
            {perDayWords(now.expected_per_day)}
          </Figure>
        )}
        {enough && (
          <Figure of={text().lastWeek} beside={text().instead(number(found.before), duration(found.watched_s))}>
            <span class={props.fresh ? "" : "waiting"}>
              {number(found.after)} <small>{text().events}</small>
            </span>
          </Figure>
        )}
      </div>
      {enough ? (
        <>
          <section class="card stack tight">
            <h2>{text().histogram}</h2>
            <p class="muted small">{text().histogramHint}</p>
            <Histogram
              seconds={found.histogram}
              width={found.bin_width}
              lines={[
                { at: found.tried.open_score, label: text().threshold(number(found.tried.open_score, 2)), kind: "tried" },
                ...(now && Math.abs(now.open_score - found.tried.open_score) > 0.02 ? [{ at: now.open_score, label: text().now, kind: "now" as const }] : []),
              ]}
              label={text().histogram}
            />
          </section>
          {found.events.length > 0 && (
            <section class="stack tight">
              <h2>{text().would}</h2>
              <p class="muted small">{text().wouldHint}</p>
              <Table
                caption={text().would}
                rows={found.events.slice(0, SHOWN)}
                rowKey={(one) => one.began_at}
                columns={[
                  { key: "at", title: text().at, cell: (one) => <span class="num">{dateTime(one.began_at)}</span> },
                  { key: "lasted", title: text().lasted, end: true, cell: (one) => duration(Math.max(1, Math.round(one.duration_s))) },
                  { key: "peak", title: text().peak, end: true, cell: (one) => number(one.peak_score, 1) },
                ]}
              />
            </section>
          )}
        </>
      ) : (
        <Notice>{text().tooLittle}</Notice>
      )}
    </>
  );
}
