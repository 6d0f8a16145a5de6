/** How a camera is read, judged and recorded. */
import { useState } from "preact/hooks";
import { api, ask } from "../../api/client";
import type { CameraChange, CameraOut, CameraSettings } from "../../api/schema";
import { Button } from "../../components/button";
import { CheckBox, SelectField, TextArea, TextField, useSubmit } from "../../components/field";
import { Notice } from "../../components/states";
import { toast } from "../../components/toast";
import { messages } from "../../i18n";
import { common } from "../../i18n/common";
import { serverWords } from "../../i18n/server-words";
import { useLoad } from "../../load";
import { may } from "../../session";
import { changed } from "./actions";

const text = messages(
  {
    basics: "Name and source",
    name: "Name",
    url: "Address",
    urlHint: "Another address needs its user name and password again.",
    sub: "Address of a smaller stream",
    subHint: "Analysed and shown instead. Clips are made of the large one.",
    username: "User name",
    password: "Password",
    kept: "Stored sealed. Leave it empty to keep it.",
    autostart: "Starts with the machine",
    loop: "Begins again at its end",
    loopHint: "Of a file or a folder.",
    detection: "Detection",
    vadType: "Type of detection",
    vadHint: "Another type learns anew.",
    learn: "Learns for (minutes)",
    fps: "Frames a second that are analysed at most",
    dwell: "Loitering after (s)",
    crowd: "A crowd from so many things that move",
    frozen: "Frozen after (s)",
    frozenHint: "Of the very same picture; 0 never calls it frozen.",
    normal: "What is normal here",
    normalHint: "Told to the analysts that judge events, such as: deliveries between 6 and 8, a flag in the wind at the left.",
    flow: "Who decides what an event is worth",
    flows: { sequential: "One analyst after the other", hierarchical: "A lead asks specialists", collaborative: "Several analysts vote" },
    clips: "Clips",
    record: "Each event gets a clip",
    before: "Seconds before",
    after: "Seconds after",
    connection: "Connection",
    transport: "Transport of RTSP",
    transports: { tcp: "TCP: nothing is lost", udp: "UDP: some networks need it" },
    rotation: "Turned clockwise by",
    snapshot: "Seconds between pictures that are fetched",
    tls: "Verify the camera's certificate",
    tlsHint: "Few cameras have one that can be verified.",
    turning: "Turning",
    turningHint: "A camera with ONVIF presets is turned to the second when measurements confirm an alarm, and back to the first. Meanwhile it watches nothing. Without both it stays where it is.",
    home: "Preset at which it watches",
    alarm: "Preset for alarms",
    hold: "Turned for (s)",
    types: {
      motion_stats: "Motion statistics",
      motion_objects: "Motion and objects",
      object_attr: "Objects",
    },
  },
  {
    basics: "이름과 영상",
    name: "이름",
    url: "주소",
    urlHint: "주소를 바꾸면 사용자 이름과 비밀번호를 다시 입력해야 합니다.",
    sub: "보조 스트림 주소",
    subHint: "분석과 표시에 대신 사용합니다. 클립은 큰 스트림으로 만듭니다.",
    username: "사용자 이름",
    password: "비밀번호",
    kept: "암호화해 저장되어 있습니다. 그대로 두려면 비워 두세요.",
    autostart: "컴퓨터와 함께 시작",
    loop: "끝나면 처음부터 반복",
    loopHint: "파일·폴더일 때.",
    detection: "감지",
    vadType: "감지 방식",
    vadHint: "방식을 바꾸면 다시 학습합니다.",
    learn: "학습 시간(분)",
    fps: "초당 최대 분석 프레임",
    dwell: "배회로 보는 시간(초)",
    crowd: "군집으로 보는 움직임 수",
    frozen: "정지 영상으로 보는 시간(초)",
    frozenHint: "똑같은 영상이 이어지는 시간. 0이면 판단하지 않습니다.",
    normal: "이곳에서 정상인 것",
    normalHint: "이벤트를 판단하는 분석기에 알려 줍니다. 예: 6~8시 배달, 왼쪽에서 흔들리는 깃발.",
    flow: "이벤트의 심각도를 정하는 방법",
    flows: { sequential: "분석기가 차례로 판단", hierarchical: "책임 분석기가 전문 분석기에 질문", collaborative: "여러 분석기가 투표" },
    clips: "클립",
    record: "이벤트마다 클립 저장",
    before: "이전(초)",
    after: "이후(초)",
    connection: "연결",
    transport: "RTSP 전송 방식",
    transports: { tcp: "TCP: 손실 없음", udp: "UDP: 일부 네트워크에서 필요" },
    rotation: "시계 방향 회전",
    snapshot: "사진을 가져오는 간격(초)",
    tls: "카메라 인증서 확인",
    tlsHint: "확인할 수 있는 인증서를 가진 카메라는 드뭅니다.",
    turning: "회전(PTZ)",
    turningHint: "ONVIF 프리셋이 있는 카메라는 알람이 측정으로 확인되면 두 번째 프리셋으로 회전했다가 첫 번째로 돌아옵니다. 그동안은 감시하지 않습니다. 둘 다 없으면 움직이지 않습니다.",
    home: "감시 위치 프리셋",
    alarm: "알람 프리셋",
    hold: "회전 유지(초)",
    types: {
      motion_stats: "움직임 통계",
      motion_objects: "움직임과 물체",
      object_attr: "물체",
    },
  },
);

/** Types that this server has; each by its own name where no better one is known. */
export function VadTypeField({ value, onValue, disabled }: { value: string; onValue: (value: string) => void; disabled?: boolean }) {
  const types = useLoad(async () => {
    const inference: { vad_types?: string[] } | null = (await ask(api.GET("/api/v1/system"))).inference;
    return inference?.vad_types ?? [];
  });
  const names = text().types as Readonly<Record<string, string>>;
  const all = [...new Set([...(types.data ?? []), value])].sort();
  return (
    <SelectField
      label={text().vadType}
      hint={text().vadHint}
      value={value}
      onValue={onValue}
      disabled={disabled ?? false}
      options={all.map((one) => ({ value: one, label: names[one] ? `${names[one]} (${one})` : one }))}
    />
  );
}

type Form = {
  name: string;
  url: string;
  sub_url: string;
  username: string;
  password: string;
  autostart: boolean;
  loop: boolean;
  vad_type: string;
  learn_min: string;
  analysis_fps: string;
  settings: { [K in keyof CameraSettings]: CameraSettings[K] extends number ? string : CameraSettings[K] };
};

const NUMBERS = ["pre_s", "post_s", "snapshot_s", "frozen_s", "dwell_s", "crowd", "ptz_hold_s"] as const;

function formOf(camera: CameraOut): Form {
  const settings: Record<string, unknown> = { ...camera.settings };
  for (const name of NUMBERS) settings[name] = String(camera.settings[name]);
  return {
    name: camera.name,
    url: camera.url,
    sub_url: camera.sub_url,
    username: "",
    password: "",
    autostart: camera.autostart,
    loop: camera.loop,
    vad_type: camera.vad_type,
    learn_min: String(Math.round(camera.learn_s / 6) / 10),
    analysis_fps: String(camera.analysis_fps),
    settings: { ...(settings as Form["settings"]), rotation: String(camera.settings.rotation) },
  };
}

/** What differs from the camera as it is: the rest is left out, so that nothing is overwritten that another changed. */
function changeOf(form: Form, camera: CameraOut): CameraChange {
  const before = formOf(camera);
  const change: CameraChange = {};
  if (form.name !== before.name) change.name = form.name.trim();
  if (form.url !== before.url) change.url = form.url.trim();
  if (form.sub_url !== before.sub_url) change.sub_url = form.sub_url.trim();
  if (form.username) change.username = form.username;
  if (form.password) change.password = form.password;
  if (form.autostart !== before.autostart) change.autostart = form.autostart;
  if (form.loop !== before.loop) change.loop = form.loop;
  if (form.vad_type !== before.vad_type) change.vad_type = form.vad_type;
  if (form.learn_min !== before.learn_min) change.learn_s = Number(form.learn_min) * 60;
  if (form.analysis_fps !== before.analysis_fps) change.analysis_fps = Number(form.analysis_fps);
  if (JSON.stringify(form.settings) !== JSON.stringify(before.settings)) {
    const settings: Record<string, unknown> = { ...camera.settings, ...form.settings };
    for (const name of NUMBERS) settings[name] = Number(form.settings[name]);
    change.settings = { ...settings, rotation: Number(form.settings.rotation) } as CameraSettings;
  }
  return change;
}

export function Settings({ camera, onChange }: { camera: CameraOut; onChange: (camera: CameraOut) => void }) {
  const [form, setForm] = useState(() => formOf(camera));
  const put = (part: Partial<Form>): void => setForm({ ...form, ...part });
  const set = (part: Partial<Form["settings"]>): void => setForm({ ...form, settings: { ...form.settings, ...part } });
  const change = changeOf(form, camera);
  const dirty = Object.keys(change).length > 0;
  const { busy, error, submit, field } = useSubmit(async () => {
    const after = await changed(api.PATCH("/api/v1/cameras/{camera_id}", { params: { path: { camera_id: camera.id } }, body: change }));
    onChange(after);
    setForm(formOf(after));
    toast(common().saved);
  });
  const off = !may("admin");
  const { settings } = form;
  const amount = (label: string, name: (typeof NUMBERS)[number], hint?: string, step = "any") => (
    <TextField label={label} hint={hint} type="number" min={0} step={step} value={settings[name]} disabled={off} onValue={(value) => set({ [name]: value })} error={field(`settings.${name}`)} required />
  );
  const network = /^(rtsps?|https?):/.test(camera.url);
  return (
    <form class="stack" onSubmit={(event) => void submit(event)}>
      <section class="card stack">
        <h2>{text().basics}</h2>
        <TextField label={text().name} value={form.name} onValue={(name) => put({ name })} disabled={off} required maxLength={200} error={field("name")} />
        {!off && (
          <>
            <TextField label={text().url} hint={network ? text().urlHint : undefined} value={form.url} onValue={(url) => put({ url })} required spellcheck={false} autocapitalize="none" error={field("url")} />
            {network && (
              <>
                <TextField label={text().sub} hint={text().subHint} value={form.sub_url} onValue={(sub_url) => put({ sub_url })} spellcheck={false} autocapitalize="none" error={field("sub_url")} />
                <div class="grid-2">
                  <TextField label={text().username} value={form.username} onValue={(username) => put({ username })} autocomplete="off" autocapitalize="none" hint={camera.has_credentials ? text().kept : common().optional} />
                  <TextField label={text().password} type="password" value={form.password} onValue={(password) => put({ password })} autocomplete="new-password" hint={camera.has_credentials ? text().kept : common().optional} />
                </div>
              </>
            )}
          </>
        )}
        <div>
          <CheckBox label={text().autostart} checked={form.autostart} disabled={off} onValue={(autostart) => put({ autostart })} />
          {!network && <CheckBox label={text().loop} hint={text().loopHint} checked={form.loop} disabled={off} onValue={(loop) => put({ loop })} />}
        </div>
      </section>
      <section class="card stack">
        <h2>{text().detection}</h2>
        <div class="grid-2">
          {!off && <VadTypeField value={form.vad_type} onValue={(vad_type) => put({ vad_type })} />}
          <TextField label={text().learn} type="number" min={0.1} max={43_200} step="any" value={form.learn_min} disabled={off} onValue={(learn_min) => put({ learn_min })} error={field("learn_s")} required />
          <TextField label={text().fps} type="number" min={0.1} max={60} step="any" value={form.analysis_fps} disabled={off} onValue={(analysis_fps) => put({ analysis_fps })} error={field("analysis_fps")} required />
          {amount(text().dwell, "dwell_s")}
          {amount(text().crowd, "crowd", undefined, "1")}
          {amount(text().frozen, "frozen_s", text().frozenHint)}
        </div>
        <TextArea label={text().normal} hint={text().normalHint} value={settings.normal_here} disabled={off} maxLength={500} onValue={(normal_here) => set({ normal_here })} />
        <SelectField
          label={text().flow}
          value={settings.flow}
          disabled={off}
          onValue={(flow) => set({ flow: flow as CameraSettings["flow"] })}
          options={(["sequential", "hierarchical", "collaborative"] as const).map((one) => ({ value: one, label: text().flows[one] }))}
        />
      </section>
      <section class="card stack">
        <h2>{text().clips}</h2>
        <CheckBox label={text().record} checked={settings.record} disabled={off} onValue={(record) => set({ record })} />
        <div class="grid-2">
          {amount(text().before, "pre_s")}
          {amount(text().after, "post_s")}
        </div>
      </section>
      <section class="card stack">
        <h2>{text().connection}</h2>
        <div class="grid-2">
          <SelectField
            label={text().transport}
            value={settings.transport}
            disabled={off}
            onValue={(transport) => set({ transport: transport as CameraSettings["transport"] })}
            options={(["tcp", "udp"] as const).map((one) => ({ value: one, label: text().transports[one] }))}
          />
          <SelectField
            label={text().rotation}
            value={settings.rotation}
            disabled={off}
            onValue={(rotation) => set({ rotation })}
            options={["0", "90", "180", "270"].map((one) => ({ value: one, label: `${one}°` }))}
          />
          {amount(text().snapshot, "snapshot_s")}
        </div>
        <CheckBox label={text().tls} hint={text().tlsHint} checked={settings.verify_tls} disabled={off} onValue={(verify_tls) => set({ verify_tls })} />
      </section>
      {network && (
        <section class="card stack">
          <h2>{text().turning}</h2>
          <p class="small muted">{text().turningHint}</p>
          <div class="grid-2">
            <TextField label={text().home} value={settings.ptz_home} disabled={off} maxLength={256} onValue={(ptz_home) => set({ ptz_home })} error={field("settings.ptz_home")} />
            <TextField label={text().alarm} value={settings.ptz_preset} disabled={off} maxLength={256} onValue={(ptz_preset) => set({ ptz_preset })} error={field("settings.ptz_preset")} />
            {amount(text().hold, "ptz_hold_s")}
          </div>
        </section>
      )}
      {error && <Notice kind="bad">{serverWords(error)}</Notice>}
      {!off && (
        <div class="row save-bar">
          <Button type="submit" kind="primary" busy={busy} disabled={!dirty}>
            {common().save}
          </Button>
          <Button kind="quiet" disabled={!dirty || busy} onClick={() => setForm(formOf(camera))}>
            {common().undo}
          </Button>
        </div>
      )}
    </form>
  );
}
