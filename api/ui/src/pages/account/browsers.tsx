/** Where one is told of alarms while no page is open. */
import { useEffect, useState } from "preact/hooks";
import { api, ask } from "../../api/client";
import type { Browsers as Known } from "../../api/schema";
import { Button } from "../../components/button";
import { Show } from "../../components/loaded";
import { Notice } from "../../components/states";
import { failed, toast } from "../../components/toast";
import { dateTime, messages } from "../../i18n";
import { useLoad } from "../../load";
import { hindrance, ownId, switchOff, switchOn } from "../../push";

const text = messages(
  {
    title: "Alarms in this browser",
    lead: "You are told of alarms at your cameras while no page of Haetae is open. Logging out here ends it.",
    on: "Tell me in this browser",
    off: "Stop telling me here",
    isOn: "You are told in this browser.",
    refused: "The browser was not allowed to show messages.",
    unserved: "No channel for browsers is switched on yet: an administrator adds one under Rules and channels.",
    insecure: "Browsers allow this over https only.",
    unable: "This browser cannot do that. On an iPhone, add Haetae to the home screen first.",
    denied: "Messages of this site are blocked: allow them in the browser's settings of this site.",
    others: "Other browsers",
    since: "since",
    remove: "Stop",
    removed: "It is told no more.",
  },
  {
    title: "이 브라우저의 알림",
    lead: "해태 화면이 열려 있지 않아도 내 카메라의 경보를 알립니다. 여기서 로그아웃하면 끝납니다.",
    on: "이 브라우저에서 알림 받기",
    off: "여기서 알림 끄기",
    isOn: "이 브라우저에서 알림을 받고 있습니다.",
    refused: "브라우저가 알림을 허용하지 않았습니다.",
    unserved: "브라우저용 채널이 아직 켜져 있지 않습니다. 관리자가 규칙과 채널에서 추가합니다.",
    insecure: "브라우저는 https에서만 이를 허용합니다.",
    unable: "이 브라우저에서는 쓸 수 없습니다. iPhone에서는 먼저 해태를 홈 화면에 추가하십시오.",
    denied: "이 사이트의 알림이 차단되어 있습니다. 브라우저의 사이트 설정에서 허용하십시오.",
    others: "다른 브라우저",
    since: "등록",
    remove: "끄기",
    removed: "더 이상 알리지 않습니다.",
  },
);

export function Browsers() {
  const known = useLoad(() => ask(api.GET("/api/v1/auth/browsers")));
  return (
    <section class="card stack narrow">
      <h2>{text().title}</h2>
      <p class="muted">{text().lead}</p>
      <Show of={known}>{(found) => <Choice known={found} reload={() => void known.reload()} />}</Show>
    </section>
  );
}

function Choice({ known, reload }: { known: Known; reload: () => void }) {
  const [own, setOwn] = useState("");
  const [busy, setBusy] = useState(false);
  useEffect(() => void ownId(known).then(setOwn, failed), [known]);
  const why = hindrance();
  const work = (what: () => Promise<void>): void => {
    setBusy(true);
    void what()
      .catch(failed)
      .finally(() => {
        setBusy(false);
        reload();
      });
  };
  const remove = async (id: string): Promise<void> => {
    await ask(api.DELETE("/api/v1/auth/browsers/{browser_id}", { params: { path: { browser_id: id } } }));
    toast(text().removed);
  };
  const others = known.browsers.filter((one) => one.id !== own);
  return (
    <>
      {why && <Notice kind="warn">{text()[why]}</Notice>}
      {!known.served && <Notice>{text().unserved}</Notice>}
      {own ? (
        <div class="row">
          <span>{text().isOn}</span>
          <Button
            busy={busy}
            onClick={() =>
              work(async () => {
                await switchOff();
                await remove(own);
              })
            }
          >
            {text().off}
          </Button>
        </div>
      ) : (
        !why && (
          <div class="row">
            <Button
              kind="primary"
              busy={busy}
              onClick={() =>
                work(async () => {
                  if (!(await switchOn(known.public_key))) toast(text().refused);
                })
              }
            >
              {text().on}
            </Button>
          </div>
        )
      )}
      {others.length > 0 && (
        <>
          <h3>{text().others}</h3>
          <ul class="plain-rows">
            {others.map((one) => (
              <li key={one.id} class="row">
                <span class="num">
                  {text().since} {dateTime(one.created_at)}
                </span>
                <Button small aria-label={`${text().remove}: ${dateTime(one.created_at)}`} onClick={() => work(() => remove(one.id))}>
                  {text().remove}
                </Button>
              </li>
            ))}
          </ul>
        </>
      )}
    </>
  );
}
