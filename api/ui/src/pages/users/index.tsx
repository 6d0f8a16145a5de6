import type { PageProps } from "..";
import { Keys } from "../../components/keys";
import { Tabs } from "../../components/tabs";
import { go } from "../../router";
import { Audit } from "./audit";
import { Invitations } from "./invitations";
import { text } from "./texts";
import { Users } from "./users";
import "./users.css";

const TABS = ["users", "invitations", "keys", "audit"] as const;
type Tab = (typeof TABS)[number];

export default function UsersPage({ params }: PageProps) {
  const shown: Tab = TABS.find((one) => one === params[0]) ?? "users";
  return (
    <div class="page">
      <div class="page-head">
        <h1>{text().title}</h1>
      </div>
      <Tabs<Tab>
        label={text().title}
        value={shown}
        onChange={(next) => go(next === "users" ? "/users" : `/users/${next}`, { replace: true })}
        tabs={TABS.map((one) => ({ value: one, label: text().tabs[one] }))}
      >
        {shown === "users" && <Users />}
        {shown === "invitations" && <Invitations />}
        {shown === "keys" && <Keys />}
        {shown === "audit" && <Audit />}
      </Tabs>
    </div>
  );
}
