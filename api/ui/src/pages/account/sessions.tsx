/** Where one is logged in, and logging other devices out. */
import { api, ask } from "../../api/client";
import { Button } from "../../components/button";
import { Show } from "../../components/loaded";
import { Table } from "../../components/table";
import { failed, toast } from "../../components/toast";
import { dateTime, messages } from "../../i18n";
import { common } from "../../i18n/common";
import { useLoad } from "../../load";

const text = messages(
  {
    device: "Device",
    address: "Address",
    since: "Logged in",
    last: "Last seen",
    end: "Log out",
    all: "Log all other devices out",
    ended: "It is logged out.",
    allEnded: "All other devices are logged out.",
    caption: "Sessions",
  },
  {
    device: "기기",
    address: "주소",
    since: "로그인",
    last: "마지막 사용",
    end: "로그아웃",
    all: "다른 모든 기기 로그아웃",
    ended: "로그아웃했습니다.",
    allEnded: "다른 모든 기기를 로그아웃했습니다.",
    caption: "세션",
  },
);

/** "Chromium on Linux": as much as a user agent tells reliably. */
function device(agent: string): string {
  const browser = [/Edg\//, /OPR\//, /Firefox\//, /Chrome\//, /Safari\//].findIndex((one) => one.test(agent));
  const system = [/Android/, /iPhone|iPad/, /Windows/, /Mac OS X/, /Linux/].findIndex((one) => one.test(agent));
  const name = ["Edge", "Opera", "Firefox", "Chrome", "Safari"][browser];
  const os = ["Android", "iOS", "Windows", "macOS", "Linux"][system];
  return [name, os].filter(Boolean).join(" · ") || agent.slice(0, 40) || "–";
}

export function Sessions() {
  const sessions = useLoad(() => ask(api.GET("/api/v1/auth/sessions")));
  const told = (call: Promise<unknown>, word: string): void =>
    void call.then(() => {
      toast(word);
      void sessions.reload();
    }, failed);
  return (
    <Show of={sessions}>
      {(all) => (
        <>
          {all.length > 1 && (
            <div class="row">
              <Button icon="out" onClick={() => told(ask(api.DELETE("/api/v1/auth/sessions")), text().allEnded)}>
                {text().all}
              </Button>
            </div>
          )}
          <Table
            caption={text().caption}
            rows={all}
            rowKey={(one) => one.id}
            columns={[
              { key: "device", title: text().device, cell: (one) => <span title={one.user_agent}>{device(one.user_agent)}</span> },
              { key: "address", title: text().address, cell: (one) => <span class="mono">{one.address}</span> },
              { key: "since", title: text().since, cell: (one) => <span class="num">{dateTime(one.created_at)}</span> },
              { key: "last", title: text().last, cell: (one) => <span class="num">{dateTime(one.last_used_at)}</span> },
              {
                key: "do",
                title: common().actions,
                cell: (one) => (
                  <Button small aria-label={`${text().end}: ${device(one.user_agent)}, ${dateTime(one.created_at)}`} onClick={() => told(ask(api.DELETE("/api/v1/auth/sessions/{session_id}", { params: { path: { session_id: one.id } } })), text().ended)}>
                    {text().end}
                  </Button>
                ),
              },
            ]}
          />
        </>
      )}
    </Show>
  );
}
