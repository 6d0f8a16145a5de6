/** The channels: where messages go, whether they get there, and a test. */
import { useState } from "preact/hooks";
import { api, ask } from "../../api/client";
import type { Channel } from "../../api/schema";
import { Asked } from "../../components/asked";
import { Button } from "../../components/button";
import { Show } from "../../components/loaded";
import { Empty } from "../../components/states";
import { Switch } from "../../components/switch";
import { failed, toast } from "../../components/toast";
import { common } from "../../i18n/common";
import { useLoad } from "../../load";
import { ChannelEditor, kindName } from "./channel-editor";
import { text } from "./texts";

const EVERY_MS = 10_000;

export function Channels() {
  const found = useLoad(
    async () => {
      const [channels, queues] = await Promise.all([ask(api.GET("/api/v1/notifications/channels")), ask(api.GET("/api/v1/notifications/queues"))]);
      return { channels, queues: new Map(queues.map((one) => [one.channel_id, one])) };
    },
    "",
    EVERY_MS,
  );
  const [edited, setEdited] = useState<Channel | "new" | null>(null);
  const words = text().channels;
  const turn = (channel: Channel, enabled: boolean): void =>
    void ask(api.PATCH("/api/v1/notifications/channels/{channel_id}", { params: { path: { channel_id: channel.id } }, body: { enabled, name: null, settings: null, secrets: null } })).then(found.reload, failed);
  const test = (channel: Channel): void =>
    void ask(api.POST("/api/v1/notifications/channels/{channel_id}/test", { params: { path: { channel_id: channel.id } } })).then(() => toast(words.testing), failed);
  return (
    <Show of={found}>
      {({ channels, queues }) => (
        <>
          <div class="row">
            <Button kind="primary" icon="plus" onClick={() => setEdited("new")}>
              {words.add}
            </Button>
          </div>
          {channels.length === 0 ? (
            <Empty icon="bell" title={words.none}>
              {words.noneLead}
            </Empty>
          ) : (
            <ul class="rule-rows">
              {channels.map((one) => {
                const queue = queues.get(one.id);
                return (
                  <li key={one.id} class={`card rule${one.enabled ? "" : " off"}`}>
                    <Switch label={words.on(one.name)} checked={one.enabled} onValue={(enabled) => turn(one, enabled)} />
                    <div class="stack tight grow">
                      <div class="row wrap">
                        <strong>{one.name}</strong>
                        <span class="badge">{kindName(one.settings.kind)}</span>
                        {queue && queue.waiting > 0 && <span class="badge warn">{words.waiting(queue.waiting)}</span>}
                        {queue && queue.dead > 0 && <span class="badge bad">{words.dead(queue.dead)}</span>}
                      </div>
                      <p class="muted small cut">{whereTo(one)}</p>
                    </div>
                    <div class="actions">
                      <Button small disabled={!one.enabled} aria-label={`${words.test}: ${one.name}`} onClick={() => test(one)}>
                        {words.test}
                      </Button>
                      <Button small icon="edit" aria-label={`${common().edit}: ${one.name}`} onClick={() => setEdited(one)}>
                        {common().edit}
                      </Button>
                      <Asked
                        small
                        quiet
                        word={common().remove}
                        label={words.remove(one.name)}
                        icon="trash"
                        title={words.remove(one.name)}
                        why={words.removeWhy}
                        onDo={async () => {
                          await ask(api.DELETE("/api/v1/notifications/channels/{channel_id}", { params: { path: { channel_id: one.id } } }));
                          toast(words.removed(one.name));
                          await found.reload();
                        }}
                      />
                    </div>
                  </li>
                );
              })}
            </ul>
          )}
          {edited && (
            <ChannelEditor
              channel={edited === "new" ? null : edited}
              others={channels.filter((one) => one !== edited)}
              onClose={() => setEdited(null)}
              onSaved={() => {
                setEdited(null);
                toast(common().saved);
                void found.reload();
              }}
            />
          )}
        </>
      )}
    </Show>
  );
}

function whereTo({ settings }: Channel): string {
  switch (settings.kind) {
    case "email":
      return `${settings.recipients.join(", ")} · ${settings.host}:${settings.port}`;
    case "webhook":
      return settings.url;
    case "mqtt":
      return `${settings.host}:${settings.port} · ${settings.prefix}`;
    case "webpush":
      return settings.contact;
    case "apprise":
      return "";
  }
}
