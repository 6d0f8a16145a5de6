import type { PageProps } from "..";
import { Tabs } from "../../components/tabs";
import { go } from "../../router";
import { Channels } from "./channels";
import { DeliveryLog } from "./log";
import { Rules } from "./rules";
import "./rules.css";
import { text } from "./texts";

const TABS = ["rules", "channels", "log"] as const;
type Tab = (typeof TABS)[number];

export default function RulesAndChannels({ params }: PageProps) {
  const shown: Tab = TABS.find((one) => one === params[0]) ?? "rules";
  return (
    <div class="page">
      <div class="page-head">
        <h1>{text().title}</h1>
      </div>
      <Tabs<Tab>
        label={text().title}
        value={shown}
        onChange={(next) => go(next === "rules" ? "/rules" : `/rules/${next}`, { replace: true })}
        tabs={TABS.map((one) => ({ value: one, label: text().tabs[one] }))}
      >
        {shown === "rules" && <Rules />}
        {shown === "channels" && <Channels />}
        {shown === "log" && <DeliveryLog />}
      </Tabs>
    </div>
  );
}
