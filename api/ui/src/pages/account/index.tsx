/** One's own account: looks, password, second factor, where one is logged in, keys. */
import type { PageProps } from "..";
import { Button } from "../../components/button";
import { Keys } from "../../components/keys";
import { Looks } from "../../components/looks";
import { Tabs } from "../../components/tabs";
import { failed } from "../../components/toast";
import { messages } from "../../i18n";
import { roles } from "../../i18n/common";
import { go } from "../../router";
import { logOut, me } from "../../session";
import { Browsers } from "./browsers";
import { Password } from "./password";
import { SecondFactor } from "./second-factor";
import { Sessions } from "./sessions";
import { TimeZone } from "./time-zone";

const text = messages(
  {
    title: "Your account",
    logOut: "Log out",
    looks: "How it looks in this browser",
    tabs: { you: "You", security: "Password and second factor", sessions: "Sessions", keys: "API keys" },
  },
  {
    title: "내 계정",
    logOut: "로그아웃",
    looks: "이 브라우저의 화면",
    tabs: { you: "나", security: "비밀번호와 2단계 인증", sessions: "세션", keys: "API 키" },
  },
);

const TABS = ["you", "security", "sessions", "keys"] as const;
type Tab = (typeof TABS)[number];

export default function Account({ params }: PageProps) {
  const user = me.value;
  const shown: Tab = TABS.find((one) => one === params[0]) ?? "you";
  if (!user) return null;
  return (
    <div class="page">
      <div class="page-head">
        <h1>{text().title}</h1>
        <Button icon="out" onClick={() => void logOut().catch(failed)}>
          {text().logOut}
        </Button>
      </div>
      <Tabs<Tab>
        label={text().title}
        value={shown}
        onChange={(next) => go(next === "you" ? "/account" : `/account/${next}`, { replace: true })}
        tabs={TABS.map((one) => ({ value: one, label: text().tabs[one] }))}
      >
        {shown === "you" && (
          <>
            <section class="card stack narrow">
              <div>
                <strong>{user.name}</strong> <span class="muted">{roles()[user.role]}</span>
              </div>
              <h2>{text().looks}</h2>
              <Looks />
              <TimeZone />
            </section>
            <Browsers />
          </>
        )}
        {shown === "security" && (
          <>
            <Password />
            <SecondFactor />
          </>
        )}
        {shown === "sessions" && <Sessions />}
        {shown === "keys" && <Keys />}
      </Tabs>
    </div>
  );
}
