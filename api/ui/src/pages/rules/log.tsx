/** What became of each message, and each attempt to deliver it. */
import { useState } from "preact/hooks";
import { api, ask } from "../../api/client";
import type { Queued, State } from "../../api/schema";
import { Button, Segments } from "../../components/button";
import { Dialog } from "../../components/dialog";
import { Show } from "../../components/loaded";
import { Empty } from "../../components/states";
import { Table } from "../../components/table";
import { failed, toast } from "../../components/toast";
import { dateTime, number } from "../../i18n";
import { common } from "../../i18n/common";
import { useLoad } from "../../load";
import { cameraName } from "../../store/cameras";
import { text } from "./texts";

const PAGE = 50;
const EVERY_MS = 5000;
const STATES: readonly State[] = ["waiting", "sent", "dead", "held", "dropped"];
const TONE: Record<State, string> = { waiting: "warn", sent: "good", dead: "bad", held: "", dropped: "" };

export function DeliveryLog() {
  const [state, setState] = useState<State | "">("");
  const [limit, setLimit] = useState(PAGE);
  const [shown, setShown] = useState<Queued | null>(null);
  const words = text().log;
  const found = useLoad(
    async () => {
      const query = { limit, ...(state ? { state: [state] } : {}) };
      const [messages, channels] = await Promise.all([ask(api.GET("/api/v1/notifications/messages", { params: { query } })), ask(api.GET("/api/v1/notifications/channels"))]);
      return { messages, channels: new Map(channels.map((one) => [one.id, one.name])) };
    },
    `${state} ${limit}`,
    EVERY_MS,
  );
  const replay = (): void =>
    void ask(api.POST("/api/v1/notifications/replay", { body: { ids: null } })).then(({ replayed }) => {
      toast(words.replayed(replayed));
      void found.reload();
    }, failed);
  return (
    <>
      <div class="row wrap">
        <Segments<State | "">
          label={words.state}
          value={state}
          onChange={setState}
          options={[{ value: "", label: words.all }, ...STATES.map((one) => ({ value: one, label: words.states[one] }))]}
        />
        <Button icon="refresh" onClick={replay}>
          {words.replay}
        </Button>
      </div>
      <Show of={found}>
        {({ messages, channels }) =>
          messages.length === 0 ? (
            <Empty icon="bell" title={words.none} />
          ) : (
            <>
              <Table
                caption={text().tabs.log}
                rows={messages}
                rowKey={(one) => one.id}
                columns={[
                  { key: "at", title: words.at, cell: (one) => <span class="num">{dateTime(one.created_at)}</span> },
                  { key: "about", title: words.about, cell: (one) => <About message={one} /> },
                  { key: "channel", title: words.channel, cell: (one) => channels.get(one.channel_id) ?? "–" },
                  { key: "state", title: words.state, cell: (one) => <MessageState message={one} /> },
                  { key: "attempts", title: words.attempts, end: true, cell: (one) => number(one.attempts) },
                  {
                    key: "more",
                    title: common().actions,
                    cell: (one) => (
                      <Button small kind="quiet" aria-label={`${words.details}: ${dateTime(one.created_at)}`} onClick={() => setShown(one)}>
                        {words.details}
                      </Button>
                    ),
                  },
                ]}
              />
              {messages.length === limit && (
                <Button onClick={() => setLimit(limit + PAGE)}>{common().more}</Button>
              )}
            </>
          )
        }
      </Show>
      {shown && <Attempts message={shown} onClose={() => setShown(null)} />}
    </>
  );
}

function About({ message }: { message: Queued }) {
  const { notice } = message;
  const words = text().log;
  return (
    <span>
      {message.event_id ? <a href={`/events/${message.event_id}`}>{words.occasions[message.occasion]}</a> : words.occasions[message.occasion]}
      <span class="muted small">
        {notice.camera_id && ` · ${cameraName(notice.camera_id)}`}
        {notice.rule_name && ` · ${notice.rule_name}`}
      </span>
    </span>
  );
}

function MessageState({ message }: { message: Queued }) {
  const words = text().log;
  const held = message.notice.held as keyof typeof words.held | "";
  return (
    <span class="row">
      <span class={`badge ${TONE[message.state]}`}>{words.states[message.state]}</span>
      {message.state === "held" && held !== "" && <span class="muted small">{words.held[held]}</span>}
    </span>
  );
}

function Attempts({ message, onClose }: { message: Queued; onClose: () => void }) {
  const found = useLoad(() => ask(api.GET("/api/v1/notifications/deliveries", { params: { query: { message_id: message.id, limit: 100 } } })), message.id);
  const words = text().log;
  return (
    <Dialog title={words.details} onClose={onClose}>
      <div class="row wrap">
        <MessageState message={message} />
        <About message={message} />
      </div>
      <Show of={found}>
        {(attempts) => (
          <ul class="plain-rows">
            {attempts.map((one) => (
              <li key={one.id} class="stack tight">
                <span class="row">
                  <span class={`badge ${one.ok ? "good" : "bad"}`}>{one.ok ? words.states.sent : "✕"}</span>
                  <span class="num small">{words.attempt(dateTime(one.at), number(one.took_ms))}</span>
                </span>
                <span class="small mono">{one.detail}</span>
              </li>
            ))}
          </ul>
        )}
      </Show>
    </Dialog>
  );
}
