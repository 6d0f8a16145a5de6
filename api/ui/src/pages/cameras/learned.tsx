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
    none: "It has not learned yet",
    version: "Version",
    type: "Type of detection",
    at: "Learned at",
    footage: "From",
    frames: "Frames",
    reason: "Why",
    reasons: { learned: "learned", drift: "followed what slowly changed" },
    inUse: "in use",
    notKept: "not kept any more",
    use: "Use this one",
    useOf: (version: number) => `Use version ${version}`,
    why: (version: number) => `From now on it judges by version ${version}. What it learned since is kept as a version too.`,
    used: (version: number) => `It judges by version ${version} now.`,
    unknown: "Which one is in use is not known: the inference process does not answer.",
  },
  {
    title: "버전",
    lead: "학습하거나 느린 변화를 따라갈 때마다 이곳의 정상을 버전으로 보관합니다. 이전 버전으로 판단하게 했다가 다시 돌아올 수 있습니다.",
    none: "아직 학습하지 않았습니다",
    version: "버전",
    type: "감지 방식",
    at: "학습 시각",
    footage: "학습량",
    frames: "프레임",
    reason: "이유",
    reasons: { learned: "학습함", drift: "느린 변화를 따라감" },
    inUse: "사용 중",
    notKept: "보관하지 않음",
    use: "이 버전 사용",
    useOf: (version: number) => `버전 ${version} 사용`,
    why: (version: number) => `지금부터 버전 ${version}(으)로 판단합니다. 그 뒤에 학습한 내용도 버전으로 남습니다.`,
    used: (version: number) => `이제 버전 ${version}(으)로 판단합니다.`,
    unknown: "추론 프로세스가 응답하지 않아 사용 중인 버전을 알 수 없습니다.",
  },
);

export function Learned({ camera }: { camera: CameraOut }) {
  const params = { path: { camera_id: camera.id } };
  const versions = useLoad(() => ask(api.GET("/api/v1/cameras/{camera_id}/normality", { params })), `${camera.id} ${camera.observed?.phase ?? ""}`);
  const [wanted, setWanted] = useState<NormalityOut | null>(null);
  const [busy, setBusy] = useState(false);
  const reasons = text().reasons as Readonly<Record<string, string>>;
  const use = async (version: number): Promise<void> => {
    setBusy(true);
    try {
      versions.set(await ask(api.POST("/api/v1/cameras/{camera_id}/normality/use", { params, body: { version } })));
      toast(text().used(version));
    } catch (error) {
      failed(error);
    } finally {
      setBusy(false);
      setWanted(null);
    }
  };
  return (
    <section class="stack tight">
      <h2>{text().title}</h2>
      <p class="muted small measure">{text().lead}</p>
      <Show of={versions}>
        {(found) =>
          found.length === 0 ? (
            <Empty icon="eye" title={text().none} />
          ) : (
            <Table
              caption={text().title}
              rows={found}
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
                    one.vad_type === camera.vad_type &&
                    one.in_use === false &&
                    one.kept && (
                      <Button small aria-label={text().useOf(one.version)} onClick={() => setWanted(one)}>
                        {text().use}
                      </Button>
                    ),
                },
              ]}
            />
          )
        }
      </Show>
      {versions.data?.some((one) => one.in_use === null) && <p class="muted small">{text().unknown}</p>}
      {wanted && (
        <Confirm title={text().useOf(wanted.version)} action={text().use} busy={busy} onConfirm={() => void use(wanted.version)} onClose={() => setWanted(null)}>
          <p>{text().why(wanted.version)}</p>
        </Confirm>
      )}
    </section>
  );
}
