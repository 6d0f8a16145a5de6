/** One camera: its picture, what it does, and all that can be set of it. */
import { api, ask } from "../../api/client";
import type { CameraOut } from "../../api/schema";
import { Chart } from "../../components/chart";
import { Live } from "../../components/live";
import { Show } from "../../components/loaded";
import { PhaseBadge } from "../../components/marks";
import { Empty, Notice } from "../../components/states";
import { Table } from "../../components/table";
import { Tabs } from "../../components/tabs";
import { dateTime, duration, number } from "../../i18n";
import { serverWords } from "../../i18n/server-words";
import { useLoad } from "../../load";
import { go } from "../../router";
import { may } from "../../session";
import { LearnAnew, Remove, StartStop } from "./actions";
import { Learned } from "./learned";
import { Sensitivity } from "./sensitivity";
import { Settings } from "./settings";
import { hasPicture, State } from "./state";
import { text } from "./texts";
import { Zones } from "./zones";

const EVERY_MS = 1000;
const TABS = ["overview", "zones", "sensitivity", "learned", "settings", "history"] as const;
type Tab = (typeof TABS)[number];

export function CameraDetail({ id, tab }: { id: string; tab: string }) {
  const camera = useLoad(() => ask(api.GET("/api/v1/cameras/{camera_id}", { params: { path: { camera_id: id } } })), id, EVERY_MS);
  const shown: Tab = TABS.find((one) => one === tab) ?? "overview";
  return (
    <div class="page">
      <Show of={camera}>
        {(found) => (
          <>
            <div class="page-head">
              <div class="stack tight head-name">
                <a class="small muted" href="/cameras">
                  ‹ {text().back}
                </a>
                <h1 class="cut">{found.name}</h1>
              </div>
              <StartStop camera={found} onChange={camera.set} />
              <LearnAnew camera={found} onChange={() => void camera.reload()} />
              <Remove camera={found} onDone={() => go("/cameras")} />
            </div>
            <Tabs<Tab>
              label={found.name}
              value={shown}
              onChange={(next) => go(next === "overview" ? `/cameras/${id}` : `/cameras/${id}/${next}`, { replace: true })}
              tabs={TABS.map((one) => ({ value: one, label: text().tabs[one] }))}
            >
              {shown === "overview" && <Overview camera={found} />}
              {shown === "zones" && <Zones camera={found} />}
              {shown === "sensitivity" && <Sensitivity camera={found} onChange={camera.set} />}
              {shown === "learned" && <Learned camera={found} />}
              {shown === "settings" && <Settings camera={found} onChange={camera.set} />}
              {shown === "history" && <History camera={found} />}
            </Tabs>
          </>
        )}
      </Show>
    </div>
  );
}

function Overview({ camera }: { camera: CameraOut }) {
  const { observed } = camera;
  const minutes = Math.round(camera.learn_s / 60);
  return (
    <div class="camera-overview">
      <Live camera={camera.id} name={camera.name} on={hasPicture(camera)} />
      <div class="stack">
        <section class="card stack">
          <State camera={camera} />
          <dl class="facts">
            <dt>{text().detection}</dt>
            <dd>{camera.vad_type}</dd>
            <dt>{text().learnTime}</dt>
            <dd class="num">{duration(minutes * 60)}</dd>
            <dt>{text().rate}</dt>
            <dd class="num">{text().perSecond(number(camera.analysis_fps, camera.analysis_fps % 1 ? 1 : 0))}</dd>
            {observed && (
              <>
                <dt>{text().light}</dt>
                <dd>{observed.night ? text().byNight : text().byDay}</dd>
                <dt>{text().frames}</dt>
                <dd class="num">
                  {number(observed.frames)}
                  {observed.age_s !== null && <span class="muted"> · {text().newest(duration(observed.age_s))}</span>}
                </dd>
              </>
            )}
            <dt>{text().source}</dt>
            <dd class="mono">{may("admin") ? camera.url : <span class="muted">{text().sourceHidden}</span>}</dd>
            {camera.sub_url && (
              <>
                <dt>{text().smaller}</dt>
                <dd class="mono">{camera.sub_url}</dd>
              </>
            )}
            <dt>{text().credentials}</dt>
            <dd>{camera.has_credentials ? text().credentialsSet : text().credentialsNone}</dd>
          </dl>
        </section>
      </div>
      <Scores camera={camera} />
    </div>
  );
}

function Scores({ camera }: { camera: CameraOut }) {
  const scores = useLoad(
    () => ask(api.GET("/api/v1/cameras/{camera_id}/scores", { params: { path: { camera_id: camera.id } } })),
    camera.id,
    60_000,
  );
  return (
    <section class="card wide">
      <div class="card-head">
        <h2>{text().scores}</h2>
        <span class="muted small">{text().scoresHint}</span>
      </div>
      <Show of={scores}>
        {(found) => {
          if (found.length === 0) return <Empty icon="statistics" title={text().noScores} />;
          const times = found.map((one) => Date.parse(one.at) / 1000);
          return (
            <Chart
              label={text().scores}
              times={times}
              atLeast={4}
              lines={[
                { label: text().highest, colour: "accent", values: found.map((one) => one.highest), fill: true },
                { label: text().mean, colour: "ink-3", values: found.map((one) => one.mean) },
              ]}
            />
          );
        }}
      </Show>
    </section>
  );
}

function History({ camera }: { camera: CameraOut }) {
  const states = useLoad(
    () => ask(api.GET("/api/v1/cameras/{camera_id}/states", { params: { path: { camera_id: camera.id }, query: { limit: 200 } } })),
    `${camera.id} ${camera.observed?.phase ?? ""}`,
  );
  const words = text().history;
  return (
    <Show of={states}>
      {(found) =>
        found.length === 0 ? (
          <Notice>{words.none}</Notice>
        ) : (
          <Table
            caption={text().tabs.history}
            rows={found}
            rowKey={(one) => one.id}
            columns={[
              { key: "at", title: words.at, cell: (one) => <span class="num">{dateTime(one.at)}</span> },
              { key: "phase", title: words.phase, cell: (one) => <PhaseBadge phase={one.phase} /> },
              { key: "reason", title: words.reason, cell: (one) => serverWords(one.reason) },
            ]}
          />
        )
      }
    </Show>
  );
}
