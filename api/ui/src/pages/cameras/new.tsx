/** Adding a camera: where its pictures come from, a look at them, then what it is called and how it learns. */
import { useState } from "preact/hooks";
import { api, ask, defaulted } from "../../api/client";
import type { CameraIn, Probe, ProbeIn } from "../../api/schema";
import { Button, Segments } from "../../components/button";
import { SelectField, TextField, useSubmit } from "../../components/field";
import { Icon } from "../../components/icons";
import { Notice } from "../../components/states";
import { toast } from "../../components/toast";
import { duration, messages, number } from "../../i18n";
import { common } from "../../i18n/common";
import { useLoad } from "../../load";
import { go } from "../../router";
import { serverWords } from "../../i18n/server-words";
import { changed } from "./actions";
import { Discovery, type Chosen } from "./discovery";
import { VadTypeField } from "./settings";

const text = messages(
  {
    title: "Add a camera",
    back: "All cameras",
    source: "1. Where its pictures come from",
    kinds: { network: "Network camera", file: "File or folder", demo: "Demo scene" },
    url: "Address",
    urlHint: "rtsp://, rtsps://, http:// or https://, as the camera's manual has it. Without name and password.",
    sub: "Address of a smaller stream",
    subHint: "Analysed and shown instead, which takes much less work. Clips are made of the large one.",
    username: "User name",
    password: "Password",
    sealed: "Stored sealed, and never shown again.",
    file: "Path",
    fileHint: "A video file, or a folder of them, on the machine that runs Haetae. Beneath the folders of cameras.roots.",
    scene: "Scene",
    scenes: { plaza: "Plaza", street: "Street" },
    look: "Look at it",
    looks: "Looking…",
    looksHint: "Takes a few seconds. Nothing is stored yet.",
    seen: "2. What it sends",
    picture: "Picture from the camera",
    works: "It works",
    fails: "There is no picture",
    advice: "What to do",
    facts: { codec: "Format", size: "Size", fps: "Frames a second", first: "First picture after", keys: "Key frames every" },
    made: "made-up scene",
    called: "3. What it is called, and how it learns",
    name: "Name",
    id: "Id",
    idHint: "In addresses, files and rules; it stays. Small letters, digits, - and _.",
    learn: "Learns for",
    learnHint: "Longer is better: a time in which everything that is normal happens. Without events until then.",
    times: { m2: "2 minutes, for a try", m10: "10 minutes", h1: "1 hour", h8: "8 hours", d1: "1 day", d7: "1 week" },
    submit: "Add and start",
    anyway: "Add without a picture",
    added: (name: string) => `${name} is added, and starts.`,
  },
  {
    title: "카메라 추가",
    back: "모든 카메라",
    source: "1. 영상이 오는 곳",
    kinds: { network: "네트워크 카메라", file: "파일·폴더", demo: "데모 장면" },
    url: "주소",
    urlHint: "카메라 설명서에 있는 rtsp://, rtsps://, http://, https:// 주소. 이름과 비밀번호는 빼고 입력하세요.",
    sub: "보조 스트림 주소",
    subHint: "분석과 표시에 대신 사용해 부하를 크게 줄입니다. 클립은 큰 스트림으로 만듭니다.",
    username: "사용자 이름",
    password: "비밀번호",
    sealed: "암호화해 저장하며 다시 표시하지 않습니다.",
    file: "경로",
    fileHint: "해태가 실행되는 컴퓨터의 동영상 파일 또는 폴더. cameras.roots에 있는 폴더 아래여야 합니다.",
    scene: "장면",
    scenes: { plaza: "광장", street: "거리" },
    look: "영상 확인",
    looks: "확인하는 중…",
    looksHint: "몇 초 걸립니다. 아직 저장되지 않습니다.",
    seen: "2. 받은 영상",
    picture: "카메라가 보낸 영상",
    works: "정상입니다",
    fails: "영상이 없습니다",
    advice: "해결 방법",
    facts: { codec: "형식", size: "크기", fps: "초당 프레임", first: "첫 영상까지", keys: "키 프레임 간격" },
    made: "만들어 낸 장면",
    called: "3. 이름과 학습",
    name: "이름",
    id: "아이디",
    idHint: "주소, 파일, 규칙에 쓰이며 바꿀 수 없습니다. 영문 소문자, 숫자, -, _.",
    learn: "학습 시간",
    learnHint: "길수록 좋습니다. 정상적인 일이 모두 한 번씩 일어나는 시간을 고르세요. 그때까지 이벤트가 없습니다.",
    times: { m2: "2분, 시험용", m10: "10분", h1: "1시간", h8: "8시간", d1: "하루", d7: "일주일" },
    submit: "추가하고 시작",
    anyway: "영상 없이 추가",
    added: (name: string) => `${name}을(를) 추가했습니다. 곧 시작합니다.`,
  },
);

type Source = "network" | "file" | "demo";
const TIMES = { m2: 120, m10: 600, h1: 3600, h8: 28_800, d1: 86_400, d7: 604_800 } as const;

/** "Front gate 2" is front-gate-2; what holds no such letter at all is camera-1, and so on. */
function idOf(name: string, taken: ReadonlySet<string>): string {
  const plain = name.normalize("NFKD").toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 60);
  for (let n = 1; ; n += 1) {
    const id = plain === "" ? `camera-${n}` : n === 1 ? plain : `${plain}-${n}`;
    if (!taken.has(id)) return id;
  }
}

export function NewCamera() {
  const known = useLoad(() => ask(api.GET("/api/v1/cameras")));
  const [source, setSource] = useState<Source>("network");
  const [url, setUrl] = useState("");
  const [sub, setSub] = useState("");
  const [username, setUsername] = useState("");
  const [password, setPassword] = useState("");
  const [scene, setScene] = useState("plaza");
  const [probe, setProbe] = useState<{ of: string; found: Probe } | null>(null);
  const [name, setName] = useState("");
  const [ownId, setOwnId] = useState<string | null>(null);
  const [learn, setLearn] = useState<keyof typeof TIMES>("h1");
  const [vadType, setVadType] = useState("motion_stats");
  const address = source === "demo" ? `demo://${scene}?seed=1` : url.trim();
  const credentials = source === "network" ? { username, password } : { username: "", password: "" };
  const asked = JSON.stringify([address, credentials]);
  const taken = new Set((known.data ?? []).map((one) => one.id));
  const id = ownId ?? idOf(name, taken);
  const found = probe?.of === asked ? probe.found : null;

  const choose = (chosen: Chosen): void => {
    setUrl(chosen.url);
    setSub(chosen.sub);
    setUsername(chosen.username);
    setPassword(chosen.password);
    if (!name) setName(chosen.name);
    setProbe(null);
  };
  const look = useSubmit(async () => {
    const body = defaulted<ProbeIn>({ url: address, ...credentials });
    setProbe({ of: asked, found: await ask(api.POST("/api/v1/cameras/probe", { body })) });
  });
  const add = useSubmit(async () => {
    const own = { id, name: name.trim() || id, url: address, sub_url: source === "network" ? sub.trim() : "" };
    const body = defaulted<CameraIn>({ ...own, ...credentials, vad_type: vadType, learn_s: TIMES[learn] });
    const camera = await changed(api.POST("/api/v1/cameras", { body }));
    toast(text().added(camera.name));
    go(`/cameras/${camera.id}`);
  });

  return (
    <div class="page narrow">
      <div class="page-head">
        <h1>{text().title}</h1>
        <a class="button quiet" href="/cameras">
          {text().back}
        </a>
      </div>
      <section class="card stack">
        <h2>{text().source}</h2>
        <Segments<Source>
          label={text().source}
          value={source}
          onChange={setSource}
          options={(["network", "file", "demo"] as const).map((one) => ({ value: one, label: text().kinds[one] }))}
        />
        {source === "network" && <Discovery onChoose={choose} />}
        <form class="stack" onSubmit={(event) => void look.submit(event)}>
        {source === "network" && (
          <>
            <TextField label={text().url} hint={text().urlHint} value={url} onValue={setUrl} name="url" placeholder="rtsp://10.0.0.5/stream1" autocomplete="off" autocapitalize="none" spellcheck={false} required error={look.field("url")} />
            <div class="grid-2">
              <TextField label={text().username} hint={common().optional} value={username} onValue={setUsername} name="camera-user" autocomplete="off" autocapitalize="none" />
              <TextField label={text().password} hint={text().sealed} value={password} onValue={setPassword} name="camera-password" type="password" autocomplete="new-password" />
            </div>
          </>
        )}
        {source === "file" && (
          <TextField label={text().file} hint={text().fileHint} value={url} onValue={setUrl} name="url" placeholder="/srv/video/gate.mp4" autocomplete="off" spellcheck={false} required error={look.field("url")} />
        )}
        {source === "demo" && (
          <SelectField label={text().scene} value={scene} onValue={setScene} options={(["plaza", "street"] as const).map((one) => ({ value: one, label: text().scenes[one] }))} />
        )}
        {look.error && <Notice kind="bad">{serverWords(look.error)}</Notice>}
        <div class="row wrap">
          <Button type="submit" {...(found?.ok ? {} : { kind: "primary" as const })} icon="eye" busy={look.busy} disabled={!address}>
            {look.busy ? text().looks : text().look}
          </Button>
          <span class="muted small">{text().looksHint}</span>
        </div>
        </form>
      </section>
      {found && <Seen found={found} />}
      {found && (
        <form class="card stack" onSubmit={(event) => void add.submit(event)}>
          <h2>{text().called}</h2>
          {add.error && <Notice kind="bad">{serverWords(add.error)}</Notice>}
          <div class="grid-2">
            <TextField label={text().name} value={name} onValue={setName} name="name" maxLength={200} required autofocus error={add.field("name")} />
            <TextField label={text().id} hint={text().idHint} value={id} onValue={setOwnId} name="id" autocapitalize="none" spellcheck={false} required error={add.field("id")} />
            <SelectField
              label={text().learn}
              hint={text().learnHint}
              value={learn}
              onValue={(value) => setLearn(value as keyof typeof TIMES)}
              options={(Object.keys(TIMES) as (keyof typeof TIMES)[]).map((one) => ({ value: one, label: text().times[one] }))}
            />
            <VadTypeField value={vadType} onValue={setVadType} />
          </div>
          {source === "network" && (
            <TextField label={text().sub} hint={text().subHint} value={sub} onValue={setSub} name="sub_url" autocomplete="off" autocapitalize="none" spellcheck={false} error={add.field("sub_url")} />
          )}
          <div class="row">
            <Button type="submit" kind="primary" icon="plus" busy={add.busy}>
              {found.ok ? text().submit : text().anyway}
            </Button>
          </div>
        </form>
      )}
    </div>
  );
}

function Seen({ found }: { found: Probe }) {
  const words = text().facts;
  return (
    <section class="card stack" aria-live="polite">
      <h2>{text().seen}</h2>
      <div class="probe">
        {found.jpeg ? <img src={`data:image/jpeg;base64,${found.jpeg}`} alt={text().picture} /> : null}
        <div class="stack">
          {found.ok ? (
            <>
              <span class="badge good">
                <Icon name="check" size={14} />
                {text().works}
              </span>
              <dl class="facts">
                <dt>{words.codec}</dt>
                <dd>{found.codec || text().made}</dd>
                <dt>{words.size}</dt>
                <dd class="num">
                  {found.width} × {found.height}
                </dd>
                <dt>{words.fps}</dt>
                <dd class="num">{number(found.fps, 1)}</dd>
                <dt>{words.first}</dt>
                <dd class="num">{duration(found.open_s)}</dd>
                {found.key_interval_s > 0 && (
                  <>
                    <dt>{words.keys}</dt>
                    <dd class="num">{duration(found.key_interval_s)}</dd>
                  </>
                )}
              </dl>
            </>
          ) : (
            <Notice kind="bad">
              <strong>{text().fails}</strong>
              <p>{serverWords(found.says)}</p>
            </Notice>
          )}
          {found.advice.length > 0 && (
            <div class="stack tight">
              <h3>{text().advice}</h3>
              <ul class="bullets">
                {found.advice.map((one) => (
                  <li key={one}>{serverWords(one)}</li>
                ))}
              </ul>
            </div>
          )}
        </div>
      </div>
    </section>
  );
}
