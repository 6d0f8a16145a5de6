/** How the house is: processes, frames, models, storage, logs, configuration. */
import { useState } from "preact/hooks";
import type { PageProps } from "..";
import { api, ask } from "../../api/client";
import type { ConfigField, ProcessOut, RingOut, SystemOut } from "../../api/schema";
import { Button } from "../../components/button";
import { CheckBox } from "../../components/field";
import { Figure } from "../../components/figure";
import { Show } from "../../components/loaded";
import { Progress } from "../../components/progress";
import { Empty, Notice } from "../../components/states";
import { Table } from "../../components/table";
import { Tabs } from "../../components/tabs";
import { duration, messages, number, percent } from "../../i18n";
import { common, phases } from "../../i18n/common";
import { useLoad } from "../../load";
import { go } from "../../router";
import { saveFile } from "../../save-file";
import { cameraName } from "../../store/cameras";
import "./system.css";

const text = messages(
  {
    title: "System",
    tabs: { overview: "Overview", frames: "Frames", models: "Models", logs: "Logs", configuration: "Configuration" },
    health: "Health",
    well: "All is well",
    stale: (names: string) => `Does not answer: ${names}`,
    version: "Version",
    node: (node: string, zone: string) => `${node}, ${zone}`,
    memory: "Memory of all processes",
    processes: "Processes",
    running: (count: number) => `${count} processes`,
    database: "Database",
    changes: (count: string) => `${count} changes of events so far`,
    storage: "Storage",
    disks: { data: "Data", backups: "Backups", frames: "Frames in shared memory" },
    free: (free: string, size: string) => `${free} GB of ${size} GB free`,
    name: "Name",
    pid: "Process id",
    phase: "State",
    age: "Last round",
    ago: (time: string) => `${time} ago`,
    rounds: "Rounds",
    memoryOf: "Memory",
    gone: "gone",
    versions: "What it runs on",
    rings: "Frame rings",
    ringsHint: "Pictures in shared memory, from each camera to whoever looks at them.",
    noRings: "No camera writes frames now",
    stream: "Stream",
    streams: { main: "full size", analysis: "analysed" },
    size: "Picture",
    slots: "Slots",
    takes: "Takes",
    frames: "Frames",
    newest: "Newest",
    torn: "Torn",
    denied: "Leases denied",
    noInference: "The inference process does not answer",
    scored: "Frames scored",
    waiting: "Waiting",
    errors: "Errors",
    batch: "Largest batch",
    model: "Model",
    load: "Loaded in",
    cpu: "Memory",
    gpu: "GPU memory",
    batchTime: "Batches of so many frames take",
    process: "all of the process",
    log: "Log of",
    follow: "Follow",
    filter: "Only lines with",
    noLines: "Nothing was logged",
    section: "Section",
    key: "Key",
    value: "Value",
    byDefault: "Default",
    variable: "Variable",
    changed: "Only what differs from the default",
    configHint: "Set in haetae.toml, or by the variable. Processes read it when they start.",
    metrics: "Metrics (Prometheus)",
    dropped: "Superseded, late or gone",
  },
  {
    title: "시스템",
    tabs: { overview: "개요", frames: "프레임", models: "모델", logs: "로그", configuration: "설정" },
    health: "상태",
    well: "모두 정상",
    stale: (names: string) => `응답 없음: ${names}`,
    version: "버전",
    node: (node: string, zone: string) => `${node}, ${zone}`,
    memory: "전체 프로세스 메모리",
    processes: "프로세스",
    running: (count: number) => `프로세스 ${count}개`,
    database: "데이터베이스",
    changes: (count: string) => `지금까지 이벤트 변경 ${count}건`,
    storage: "저장 공간",
    disks: { data: "데이터", backups: "백업", frames: "공유 메모리 프레임" },
    free: (free: string, size: string) => `${size} GB 중 ${free} GB 남음`,
    name: "이름",
    pid: "프로세스 ID",
    phase: "상태",
    age: "마지막 작업",
    ago: (time: string) => `${time} 전`,
    rounds: "작업 횟수",
    memoryOf: "메모리",
    gone: "없음",
    versions: "실행 환경",
    rings: "프레임 링",
    ringsHint: "카메라가 공유 메모리에 쓰는 영상입니다.",
    noRings: "지금 프레임을 쓰는 카메라가 없습니다",
    stream: "스트림",
    streams: { main: "원본", analysis: "분석용" },
    size: "영상 크기",
    slots: "칸",
    takes: "크기",
    frames: "프레임",
    newest: "최신",
    torn: "찢어짐",
    denied: "거절된 임대",
    noInference: "추론 프로세스가 응답하지 않습니다",
    scored: "채점한 프레임",
    waiting: "대기",
    errors: "오류",
    batch: "최대 배치",
    model: "모델",
    load: "불러온 시간",
    cpu: "메모리",
    gpu: "GPU 메모리",
    batchTime: "배치 크기별 처리 시간",
    process: "프로세스 전체",
    log: "로그",
    follow: "계속 보기",
    filter: "포함할 단어",
    noLines: "기록이 없습니다",
    section: "구역",
    key: "키",
    value: "값",
    byDefault: "기본값",
    variable: "변수",
    changed: "기본값과 다른 것만",
    configHint: "haetae.toml 또는 변수로 정합니다. 프로세스는 시작할 때 읽습니다.",
    metrics: "지표(Prometheus)",
    dropped: "대체·지연·사라짐",
  },
);

const TABS = ["overview", "frames", "models", "logs", "configuration"] as const;
type Tab = (typeof TABS)[number];
const EVERY_MS = 3000;
const STALE_S = 10;

const mb = (bytes: number): string => (bytes >= 1e9 ? `${number(bytes / 1e9, 1)} GB` : `${number(bytes / 1e6, bytes < 1e7 ? 1 : 0)} MB`);

export default function System({ params }: PageProps) {
  const shown: Tab = TABS.find((one) => one === params[0]) ?? "overview";
  const system = useLoad(() => ask(api.GET("/api/v1/system")), "", EVERY_MS);
  return (
    <div class="page">
      <div class="page-head">
        <h1>{text().title}</h1>
      </div>
      <Tabs<Tab>
        label={text().title}
        value={shown}
        onChange={(next) => go(next === "overview" ? "/system" : `/system/${next}`, { replace: true })}
        tabs={TABS.map((one) => ({ value: one, label: text().tabs[one] }))}
      >
        {shown === "configuration" ? (
          <Configuration />
        ) : (
          <Show of={system}>
            {(found) => (
              <>
                {shown === "overview" && <Overview system={found} />}
                {shown === "frames" && <Frames rings={found.rings} />}
                {shown === "models" && <Models system={found} />}
                {shown === "logs" && <Logs processes={found.processes.map((one) => one.name)} chosen={params[1]} />}
              </>
            )}
          </Show>
        )}
      </Tabs>
    </div>
  );
}

// ---- overview

const late = (one: ProcessOut): boolean => one.age_s > STALE_S || one.memory_mb === null;

function Overview({ system }: { system: SystemOut }) {
  const silent = [...system.missing, ...system.processes.filter(late).map((one) => one.name)];
  const memory = system.processes.reduce((sum, one) => sum + (one.memory_mb ?? 0), 0);
  const disks = text().disks as Readonly<Record<string, string>>;
  const words = phases() as Readonly<Record<string, string>>;
  return (
    <>
      <div class="tiles">
        <Figure of={text().health} beside={text().running(system.processes.length)}>
          <span class={silent.length ? "bad-ink" : "good-ink"}>{silent.length ? text().stale(silent.join(", ")) : text().well}</span>
        </Figure>
        <Figure of={text().version} beside={text().node(system.node_id, system.time_zone)}>
          {system.version}
        </Figure>
        <Figure of={text().memory}>{mb(memory * 1e6)}</Figure>
        <Figure of={text().database} beside={text().changes(number(system.database.sequence))}>
          {system.database.size_mb === null ? system.database.kind : mb(system.database.size_mb * 1e6)}
        </Figure>
      </div>
      <section class="card stack">
        <div class="card-head">
          <h2>{text().storage}</h2>
        </div>
        <div class="grid-2">
          {system.disks.map((one) => {
            const used = one.size_gb ? 1 - one.free_gb / one.size_gb : 0;
            return (
              <div key={one.what} class="stack tight">
                <div class="row between">
                  <strong>{disks[one.what] ?? one.what}</strong>
                  <span class="num small">{percent(used)}</span>
                </div>
                <Progress share={used} label={disks[one.what] ?? one.what} {...(used > 0.95 ? { kind: "bad" as const } : used > 0.85 ? { kind: "warn" as const } : {})} />
                <span class="muted small">{text().free(number(one.free_gb, 1), number(one.size_gb, 0))}</span>
              </div>
            );
          })}
        </div>
      </section>
      <section class="stack tight">
        <h2>{text().processes}</h2>
        <Table
          caption={text().processes}
          rows={system.processes}
          rowKey={(one) => one.name}
          columns={[
            { key: "name", title: text().name, cell: (one) => <a href={`/system/logs/${one.name}`}>{one.name}</a> },
            { key: "phase", title: text().phase, cell: (one) => <span class={`badge ${late(one) ? "bad" : "good"}`}>{words[one.phase] ?? one.phase}</span> },
            { key: "age", title: text().age, end: true, cell: (one) => text().ago(duration(one.age_s)) },
            { key: "rounds", title: text().rounds, end: true, cell: (one) => number(one.count) },
            { key: "memory", title: text().memoryOf, end: true, cell: (one) => (one.memory_mb === null ? text().gone : mb(one.memory_mb * 1e6)) },
            { key: "pid", title: text().pid, end: true, cell: (one) => one.pid },
          ]}
        />
      </section>
      <section class="card stack tight">
        <div class="card-head">
          <h2>{text().versions}</h2>
          <Metrics />
        </div>
        <dl class="facts">
          <dt>{text().database}</dt>
          <dd>
            {system.database.kind} {system.database.revision}
          </dd>
          {Object.entries(system.versions).map(([name, version]) => (
            <>
              <dt>{name}</dt>
              <dd class="num">{version}</dd>
            </>
          ))}
        </dl>
      </section>
    </>
  );
}

function Metrics() {
  const fetchThem = async (): Promise<void> => {
    const { data } = await api.GET("/metrics", { parseAs: "text" });
    saveFile("haetae-metrics.txt", "text/plain", String(data));
  };
  return (
    <Button small icon="download" onClick={() => void fetchThem()}>
      {text().metrics}
    </Button>
  );
}

// ---- frames

function Frames({ rings }: { rings: readonly RingOut[] }) {
  const streams = text().streams as Readonly<Record<string, string>>;
  return (
    <>
      <p class="muted small">{text().ringsHint}</p>
      {rings.length === 0 ? (
        <Empty icon="cameras" title={text().noRings} />
      ) : (
        <Table
          caption={text().rings}
          rows={rings}
          rowKey={(one) => `${one.camera_id} ${one.stream}`}
          columns={[
            { key: "camera", title: common().camera, cell: (one) => <a href={`/cameras/${one.camera_id}`}>{cameraName(one.camera_id)}</a> },
            { key: "stream", title: text().stream, cell: (one) => streams[one.stream] ?? one.stream },
            { key: "size", title: text().size, end: true, cell: (one) => `${one.width} × ${one.height}` },
            { key: "slots", title: text().slots, end: true, cell: (one) => one.slots },
            { key: "takes", title: text().takes, end: true, cell: (one) => mb(one.size_mb * 1e6) },
            { key: "frames", title: text().frames, end: true, cell: (one) => number(one.frames) },
            { key: "newest", title: text().newest, end: true, cell: (one) => (one.age_s === null ? "–" : <span class={one.age_s > 5 ? "bad-ink" : ""}>{text().ago(duration(one.age_s))}</span>) },
            { key: "torn", title: text().torn, end: true, cell: (one) => number(one.torn) },
            { key: "denied", title: text().denied, end: true, cell: (one) => number(one.leases_denied) },
          ]}
        />
      )}
    </>
  );
}

// ---- models

type Inference = {
  scored: number;
  waiting: number;
  errors: number;
  superseded: number;
  late: number;
  gone: number;
  largest_batch: number;
  batch_ms: Readonly<Record<string, Readonly<Record<string, number>>>>;
  models: Readonly<Record<string, Readonly<Record<string, number>>>>;
};

function Models({ system }: { system: SystemOut }) {
  const inference = system.inference as Inference | null;
  if (!inference) return <Notice kind="bad">{text().noInference}</Notice>;
  const models = Object.entries(inference.models);
  const gpu = models.some(([, one]) => Object.entries(one).some(([name, size]) => name.startsWith("cuda_") && size > 0));
  return (
    <>
      <div class="tiles">
        <Figure of={text().scored}>{number(inference.scored)}</Figure>
        <Figure of={text().waiting}>{number(inference.waiting)}</Figure>
        <Figure of={text().dropped}>{number(inference.superseded + inference.late + inference.gone)}</Figure>
        <Figure of={text().errors}>
          <span class={inference.errors ? "bad-ink" : ""}>{number(inference.errors)}</span>
        </Figure>
        <Figure of={text().batch}>{number(inference.largest_batch)}</Figure>
      </div>
      <Table
        caption={text().tabs.models}
        rows={models}
        rowKey={([name]) => name}
        columns={[
          { key: "model", title: text().model, cell: ([name]) => (name === "process" ? text().process : <span class="mono">{name}</span>) },
          { key: "load", title: text().load, end: true, cell: ([, one]) => (one["load_s"] === undefined ? "" : duration(one["load_s"])) },
          { key: "cpu", title: text().cpu, end: true, cell: ([, one]) => mb(one["cpu_bytes"] ?? one["cpu_resident"] ?? 0) },
          ...(gpu ? [{ key: "gpu", title: text().gpu, end: true, cell: ([, one]: (typeof models)[number]) => mb(one["cuda_bytes"] ?? one["cuda_reserved"] ?? 0) }] : []),
        ]}
      />
      {Object.entries(inference.batch_ms).map(([type, sizes]) => (
        <section key={type} class="card stack tight">
          <h2>
            {text().batchTime}: <span class="mono">{type}</span>
          </h2>
          <dl class="facts">
            {Object.entries(sizes).map(([rows, ms]) => (
              <>
                <dt class="num">{rows}</dt>
                <dd class="num">{number(ms, 1)} ms</dd>
              </>
            ))}
          </dl>
        </section>
      ))}
    </>
  );
}

// ---- logs

function Logs({ processes, chosen }: { processes: readonly string[]; chosen: string | undefined }) {
  const name = chosen ?? processes[0] ?? "api";
  const names = [...new Set([...processes, name])];
  const [follow, setFollow] = useState(true);
  const [filter, setFilter] = useState("");
  const log = useLoad(() => ask(api.GET("/api/v1/system/logs/{process}", { params: { path: { process: name }, query: { lines: 500 } } })), name, follow ? EVERY_MS : 0);
  return (
    <>
      <div class="row wrap">
        <select class="input auto" aria-label={text().log} value={name} onChange={(event) => go(`/system/logs/${event.currentTarget.value}`, { replace: true })}>
          {names.map((one) => (
            <option key={one} value={one}>
              {one}
            </option>
          ))}
        </select>
        <input class="input search" type="search" placeholder={text().filter} aria-label={text().filter} value={filter} onInput={(event) => setFilter(event.currentTarget.value)} />
        <CheckBox label={text().follow} checked={follow} onValue={setFollow} />
      </div>
      <Show of={log}>
        {({ lines }) => {
          const shown = lines.filter((one) => one.toLowerCase().includes(filter.toLowerCase())).reverse();
          return shown.length === 0 ? (
            <Empty icon="system" title={text().noLines} />
          ) : (
            <pre class="log" tabIndex={0} role="log" aria-label={`${text().log} ${name}`}>
              {shown.map((line, index) => (
                <span key={index} class={/"level": ?"(error|critical)"|\[error|Traceback/i.test(line) ? "bad-ink" : /"level": ?"warning"|\[warning/i.test(line) ? "warn-ink" : ""}>
                  {line}
                  {"\n"}
                </span>
              ))}
            </pre>
          );
        }}
      </Show>
    </>
  );
}

// ---- configuration

const shownValue = (value: unknown): string => (typeof value === "string" ? value || "“”" : JSON.stringify(value));

function Configuration() {
  const fields = useLoad(() => ask(api.GET("/api/v1/system/config")));
  const [filter, setFilter] = useState("");
  const [changed, setChanged] = useState(false);
  const matches = (one: ConfigField): boolean => `${one.section}.${one.name} ${one.about} ${one.variable}`.toLowerCase().includes(filter.toLowerCase()) && (!changed || shownValue(one.value) !== shownValue(one.default));
  return (
    <>
      <p class="muted small">{text().configHint}</p>
      <div class="row wrap">
        <input class="input search" type="search" placeholder={common().search} aria-label={common().search} value={filter} onInput={(event) => setFilter(event.currentTarget.value)} />
        <CheckBox label={text().changed} checked={changed} onValue={setChanged} />
      </div>
      <Show of={fields}>
        {(all) => {
          const found = all.filter(matches);
          return found.length === 0 ? (
            <Empty icon="search" title={common().nothingFound} />
          ) : (
            <Table
              caption={text().tabs.configuration}
              rows={found}
              rowKey={(one) => one.variable}
              columns={[
                {
                  key: "key",
                  title: text().key,
                  cell: (one) => (
                    <div class="config-key">
                      <span class="mono">
                        {one.section}.<strong>{one.name}</strong>
                      </span>
                      <span class="muted small">{one.about}</span>
                    </div>
                  ),
                },
                {
                  key: "value",
                  title: text().value,
                  cell: (one) => (
                    <span class="mono">
                      {shownValue(one.value)} {one.unit && <span class="muted">{one.unit}</span>}
                    </span>
                  ),
                },
                { key: "default", title: text().byDefault, cell: (one) => (shownValue(one.value) === shownValue(one.default) ? <span class="muted">=</span> : <span class="mono muted">{shownValue(one.default)}</span>) },
                { key: "variable", title: text().variable, cell: (one) => <span class="mono small muted">{one.variable}</span> },
              ]}
            />
          );
        }}
      </Show>
    </>
  );
}
