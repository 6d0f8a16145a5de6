/** ONVIF: the cameras that answer on the network, and what each of them sends. */
import { useState } from "preact/hooks";
import { api, ask } from "../../api/client";
import type { OnvifDevice, OnvifFound, OnvifStream } from "../../api/schema";
import { Button } from "../../components/button";
import { TextField, useSubmit } from "../../components/field";
import { Empty, Notice } from "../../components/states";
import { messages, number } from "../../i18n";
import { common } from "../../i18n/common";
import { serverWords } from "../../i18n/server-words";

const text = messages(
  {
    search: "Search the network",
    searching: "Searching…",
    hint: "Cameras that speak ONVIF answer within seconds. Those beyond a router have to be entered.",
    none: "No camera answered",
    noneHint: "Is it on the same network as this server, and ONVIF switched on in it? Its address can be entered all the same.",
    ask: "Ask it for its streams",
    asking: "Asking…",
    username: "User name",
    password: "Password",
    hintLogin: "Many cameras have users of their own for ONVIF.",
    streams: "Streams",
    use: "Use it",
    useBoth: "Use it, and the smallest to analyse",
    useOf: (name: string) => `Use ${name}`,
  },
  {
    search: "네트워크 검색",
    searching: "검색하는 중…",
    hint: "ONVIF 카메라는 몇 초 안에 응답합니다. 라우터 너머의 카메라는 직접 입력하세요.",
    none: "응답한 카메라가 없습니다",
    noneHint: "서버와 같은 네트워크에 있고 ONVIF가 켜져 있는지 확인하세요. 주소를 직접 입력할 수도 있습니다.",
    ask: "스트림 조회",
    asking: "조회하는 중…",
    username: "사용자 이름",
    password: "비밀번호",
    hintLogin: "ONVIF 사용자가 따로 있는 카메라가 많습니다.",
    streams: "스트림",
    use: "사용",
    useBoth: "사용하고 가장 작은 스트림으로 분석",
    useOf: (name: string) => `${name} 사용`,
  },
);

export type Chosen = { url: string; sub: string; username: string; password: string; name: string };

export function Discovery({ onChoose }: { onChoose: (chosen: Chosen) => void }) {
  const [found, setFound] = useState<readonly OnvifFound[] | null>(null);
  const [open, setOpen] = useState("");
  const { busy, error, submit } = useSubmit(async () => {
    setFound(await ask(api.GET("/api/v1/cameras/discover", { params: { query: { wait_s: 3 } } })));
  });
  return (
    <div class="stack tight">
      <div class="row wrap">
        <Button icon="search" busy={busy} onClick={() => void submit()}>
          {busy ? text().searching : text().search}
        </Button>
        <span class="muted small why">{text().hint}</span>
      </div>
      {error && <Notice kind="bad">{serverWords(error)}</Notice>}
      {found?.length === 0 && (
        <Empty icon="search" title={text().none}>
          {text().noneHint}
        </Empty>
      )}
      {found && found.length > 0 && (
        <ul class="plain-rows" aria-live="polite">
          {found.map((one) => (
            <li key={one.url || one.host} class="stack tight">
              <div class="row between">
                <span class="cut">
                  <strong>{one.name || one.host}</strong>{" "}
                  <span class="muted small">
                    {[one.hardware, one.host, one.location].filter(Boolean).join(" · ")}
                  </span>
                </span>
                {one.url && (
                  <Button small aria-expanded={open === one.url} onClick={() => setOpen(open === one.url ? "" : one.url)}>
                    {text().ask}
                  </Button>
                )}
              </div>
              {one.says && <Notice kind="warn">{serverWords(one.says)}</Notice>}
              {open === one.url && one.url && <Device found={one} onChoose={onChoose} />}
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}

function Device({ found, onChoose }: { found: OnvifFound; onChoose: (chosen: Chosen) => void }) {
  const [username, setUsername] = useState("");
  const [password, setPassword] = useState("");
  const [device, setDevice] = useState<OnvifDevice | null>(null);
  const { busy, error, submit } = useSubmit(async () => {
    setDevice(await ask(api.POST("/api/v1/cameras/discover", { body: { url: found.url, username, password } })));
  });
  const choose = (stream: OnvifStream, sub: string): void =>
    onChoose({ url: stream.url, sub, username, password, name: [device?.manufacturer, device?.model].filter(Boolean).join(" ") || found.name });
  const smallest = device && device.streams.length > 1 ? device.streams.at(-1) : undefined;
  return (
    <div class="stack tight inner">
      <form
        class="stack tight"
        onSubmit={(event) => {
          event.stopPropagation();
          void submit(event);
        }}
      >
        <div class="grid-2">
          <TextField label={text().username} value={username} onValue={setUsername} autocomplete="off" autocapitalize="none" hint={text().hintLogin} />
          <TextField label={text().password} type="password" value={password} onValue={setPassword} autocomplete="new-password" hint={common().optional} />
        </div>
        <div class="row">
          <Button type="submit" small busy={busy}>
            {busy ? text().asking : text().ask}
          </Button>
        </div>
      </form>
      {error && <Notice kind="bad">{serverWords(error)}</Notice>}
      {device && (
        <>
          {device.advice.map((one) => (
            <Notice key={one}>{serverWords(one)}</Notice>
          ))}
          <h3>{text().streams}</h3>
          <ul class="plain-rows">
            {device.streams.map((one) => (
              <li key={one.url} class="row wrap between">
                <span class="cut grow">
                  <strong>{one.name}</strong>{" "}
                  <span class="muted small num">
                    {one.codec} {one.width} × {one.height} {one.fps > 0 && `· ${number(one.fps)}/s`}
                  </span>
                </span>
                <Button small aria-label={text().useOf(one.name)} onClick={() => choose(one, smallest && smallest !== one ? smallest.url : "")}>
                  {smallest && smallest !== one ? text().useBoth : text().use}
                </Button>
              </li>
            ))}
          </ul>
        </>
      )}
    </div>
  );
}
