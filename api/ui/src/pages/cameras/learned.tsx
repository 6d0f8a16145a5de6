/** What a camera learned: its versions, and going back to one of them. */
import { useState } from "preact/hooks";
import { api, ask } from "../../api/client";
import type { CameraOut, NormalityOut } from "../../api/schema";
import { Button } from "../../components/button";
import { Confirm } from "../../components/dialog";
import { Show } from "../../components/loaded";
import { Empty } from "../../components/states";
import { Table } from "../../components/table";
import { failed, toast } from "../../components/toast";
import { dateTime, duration, messages, number } from "../../i18n";
import { common } from "../../i18n/common";
import { serverWords } from "../../i18n/server-words";
import { useLoad } from "../../load";
import { may } from "../../session";

const text = messages(
  {
    title: "Versions",
    lead: "Each time that it learned, and whenever it follows what slowly changes, what is normal here is kept as a version. It can judge by an earlier one again, and come back.",
    lights: { day: "By day", night: "By infra-red" },
    lightsLead: "What it sees by infra-red it learns apart from the day. Going back by day leaves the nights as they are, and the other way round.",
    now: "sees so now",
    noneSo: "It has not learned of this light yet",
    none: "It has not learned yet",
    version: "Version",
    type: "Type of detection",
    at: "Learned at",
    footage: "From",
    frames: "Frames",
    reason: "Why",
    reasons: { learned: "learned", drift: "followed what slowly changed", "fitted from files": "learned from files" },
    inUse: "in use",
    notKept: "not kept any more",
    use: "Use this one",
    useOf: (version: number, light: string) => `Use this one: version ${version}${light && ` (${light})`}`,
    why: (version: number) => `From now on it judges by version ${version}. What it learned since is kept as a version too.`,
    used: (version: number) => `It judges by version ${version} now.`,
    unknown: "Which one is in use is not known: the inference process does not answer.",
  },
  {
    title: "버전",
    lead: "학습하거나 느린 변화를 따라갈 때마다 이곳의 정상을 버전으로 보관합니다. 이전 버전으로 판단하게 했다가 다시 돌아올 수 있습니다.",
    lights: { day: "주간", night: "적외선(야간)" },
    lightsLead: "적외선 영상은 주간과 따로 학습합니다. 주간 버전을 되돌려도 야간은 그대로이며, 그 반대도 같습니다.",
    now: "지금 이 상태",
    noneSo: "이 조명에서는 아직 학습하지 않았습니다",
    none: "아직 학습하지 않았습니다",
    version: "버전",
    type: "감지 방식",
    at: "학습 시각",
    footage: "학습량",
    frames: "프레임",
    reason: "이유",
    reasons: { learned: "학습함", drift: "느린 변화를 따라감", "fitted from files": "영상 파일에서 학습함" },
    inUse: "사용 중",
    notKept: "보관하지 않음",
    use: "이 버전 사용",
    useOf: (version: number, light: string) => `이 버전 사용: ${light && `${light} `}버전 ${version}`,
    why: (version: number) => `지금부터 버전 ${version}(으)로 판단합니다. 그 뒤에 학습한 내용도 버전으로 남습니다.`,
    used: (version: number) => `이제 버전 ${version}(으)로 판단합니다.`,
    unknown: "추론 프로세스가 응답하지 않아 사용 중인 버전을 알 수 없습니다.",
  },
);

export function Learned({ camera }: { camera: CameraOut }) {
  const params = { path: { camera_id: camera.id } };
  const night = camera.observed?.night ?? false;
  const versions = useLoad(
    () => ask(api.GET("/api/v1/cameras/{camera_id}/normality", { params })),
    `${camera.id} ${camera.observed?.phase ?? ""} ${night}`,
  );
  const [wanted, setWanted] = useState<NormalityOut | null>(null);
  const [busy, setBusy] = useState(false);
  const use = async ({ version, light }: NormalityOut): Promise<void> => {
    setBusy(true);
    try {
      versions.set(await ask(api.POST("/api/v1/cameras/{camera_id}/normality/use", { params, body: { version, light } })));
      toast(text().used(version));
    } catch (error) {
      failed(error);
    } finally {
      setBusy(false);
      setWanted(null);
    }
  };
  const both = night || Boolean(versions.data?.some((one) => one.light === "night"));
  const of = (one: NormalityOut): string => text().useOf(one.version, both ? text().lights[one.light] : "");
  return (
    <section class="stack tight">
      <h2>{text().title}</h2>
      <p class="muted small measure">{text().lead}</p>
      {both && <p class="muted small measure">{text().lightsLead}</p>}
      <Show of={versions}>
        {(found) =>
          !both ? (
            <Versions camera={camera} found={found} title={text().title} of={of} onUse={setWanted} />
          ) : (
            (["day", "night"] as const).map((light) => (
              <section key={light} class="stack tight">
                <h3 class="row">
                  {text().lights[light]}
                  {camera.observed && night === (light === "night") && <span class="badge">{text().now}</span>}
                </h3>
                <Versions camera={camera} found={found.filter((one) => one.light === light)} title={text().lights[light]} of={of} onUse={setWanted} />
              </section>
            ))
          )
        }
      </Show>
      {versions.data?.some((one) => one.in_use === null) && <p class="muted small">{text().unknown}</p>}
      {wanted && (
        <Confirm title={of(wanted)} action={text().use} busy={busy} onConfirm={() => void use(wanted)} onClose={() => setWanted(null)}>
          <p>{text().why(wanted.version)}</p>
        </Confirm>
      )}
    </section>
  );
}

/** Of one light; `of` names what a button does. */
function Versions(props: {
  camera: CameraOut;
  found: readonly NormalityOut[];
  title: string;
  of: (one: NormalityOut) => string;
  onUse: (one: NormalityOut) => void;
}) {
  const reasons = text().reasons as Readonly<Record<string, string>>;
  if (props.found.length === 0) return <Empty icon="eye" title={props.title === text().title ? text().none : text().noneSo} />;
  return (
    <Table
      caption={props.title}
      rows={props.found}
      rowKey={(one) => `${one.vad_type} ${one.version}`}
      columns={[
        {
          key: "version",
          title: text().version,
          cell: (one) => (
            <span class="row">
              <strong class="num">{one.version}</strong>
              {one.in_use && <span class="badge good">{text().inUse}</span>}
              {one.kept === false && <span class="badge">{text().notKept}</span>}
            </span>
          ),
        },
        { key: "type", title: text().type, cell: (one) => one.vad_type },
        { key: "at", title: text().at, cell: (one) => <span class="num">{dateTime(one.created_at)}</span> },
        { key: "footage", title: text().footage, end: true, cell: (one) => duration(one.learned_s) },
        { key: "frames", title: text().frames, end: true, cell: (one) => number(one.frames) },
        { key: "reason", title: text().reason, cell: (one) => reasons[one.reason] ?? serverWords(one.reason) },
        {
          key: "use",
          title: common().actions,
          cell: (one) =>
            may("operator") &&
            one.vad_type === props.camera.vad_type &&
            one.in_use === false &&
            one.kept && (
              <Button small aria-label={props.of(one)} onClick={() => props.onUse(one)}>
                {text().use}
              </Button>
            ),
        },
      ]}
    />
  );
}
