/** One's own API keys: each may be made by anybody for themselves, its secret is shown once. */
import { useState } from "preact/hooks";
import { api, ask } from "../api/client";
import type { Scope } from "../api/schema";
import { dateTime } from "../i18n";
import { common } from "../i18n/common";
import { useLoad } from "../load";
import { text } from "../pages/users/texts";
import { may } from "../session";
import { cameraName, cameras } from "../store/cameras";
import { Asked } from "./asked";
import { Button } from "./button";
import { Copy } from "./copy";
import { Dialog } from "./dialog";
import { TextField, useSubmit } from "./field";
import { Show } from "./loaded";
import { Empty, Notice } from "./states";
import { Table } from "./table";
import { Ticks } from "./ticks";
import { toast } from "./toast";

/** What a role may do at all: a key with more would be refused there. */
const VIEWER: readonly Scope[] = ["cameras:read", "events:read", "media:read", "stats:read"];
const OPERATOR: readonly Scope[] = [...VIEWER, "cameras:write", "events:write"];
const ADMIN: readonly Scope[] = [...OPERATOR, "notifications:read", "notifications:write", "system:read", "users:read", "users:write"];

export function Keys() {
  const keys = useLoad(() => ask(api.GET("/api/v1/keys")));
  const [made, setMade] = useState(false);
  const words = text().keys;
  const scopes = text().scopes;
  return (
    <>
      <p class="muted measure">{words.lead}</p>
      <div class="row">
        <Button kind="primary" icon="plus" onClick={() => setMade(true)}>
          {words.add}
        </Button>
      </div>
      <Show of={keys}>
        {(all) =>
          all.length === 0 ? (
            <Empty icon="lock" title={words.none} />
          ) : (
            <Table
              caption={text().tabs.keys}
              rows={all}
              rowKey={(one) => one.id}
              columns={[
                { key: "name", title: words.name, cell: (one) => <strong>{one.name}</strong> },
                {
                  key: "scopes",
                  title: words.scopes,
                  cell: (one) => (
                    <span class="row wrap">
                      {one.scopes.map((scope) => (
                        <span key={scope} class="badge" title={scope}>
                          {scopes[scope]}
                        </span>
                      ))}
                    </span>
                  ),
                },
                { key: "cameras", title: words.cameras, cell: (one) => (one.camera_ids ? one.camera_ids.map(cameraName).join(", ") : text().users.all) },
                { key: "created", title: words.created, cell: (one) => <span class="num">{dateTime(one.created_at)}</span> },
                {
                  key: "expires",
                  title: words.expires,
                  cell: (one) =>
                    one.expires_at === null ? common().never : Date.parse(one.expires_at) < Date.now() ? <span class="badge bad">{words.expired}</span> : <span class="num">{dateTime(one.expires_at)}</span>,
                },
                { key: "used", title: words.used, cell: (one) => <span class="num">{one.last_used_at ? dateTime(one.last_used_at) : common().never}</span> },
                {
                  key: "do",
                  title: common().actions,
                  cell: (one) => (
                    <Asked
                      small
                      word={words.revoke}
                      icon="trash"
                      quiet
                      label={`${words.revoke}: ${one.name}`}
                      title={`${words.revoke}: ${one.name}`}
                      why={words.revokeWhy}
                      onDo={async () => {
                        await ask(api.DELETE("/api/v1/keys/{key_id}", { params: { path: { key_id: one.id } } }));
                        toast(words.revoked);
                        await keys.reload();
                      }}
                    />
                  ),
                },
              ]}
            />
          )
        }
      </Show>
      {made && (
        <NewKey
          onClose={() => {
            setMade(false);
            void keys.reload();
          }}
        />
      )}
    </>
  );
}

function NewKey({ onClose }: { onClose: () => void }) {
  const words = text().keys;
  const offered = may("admin") ? ADMIN : may("operator") ? OPERATOR : VIEWER;
  const [name, setName] = useState("");
  const [scopes, setScopes] = useState<readonly string[]>(["cameras:read", "events:read"]);
  const [only, setOnly] = useState<readonly string[]>([]);
  const [days, setDays] = useState("365");
  const [secret, setSecret] = useState("");
  const { busy, error, submit, field } = useSubmit(async () => {
    const body = { name: name.trim(), scopes: [...scopes] as Scope[], camera_ids: only.length ? [...only] : null, days: days ? Math.round(Number(days)) : null };
    setSecret((await ask(api.POST("/api/v1/keys", { body }))).secret);
  });
  if (secret)
    return (
      <Dialog title={words.secret} onClose={onClose} foot={<Button onClick={onClose}>{common().close}</Button>}>
        <Copy label={words.secret} value={secret} />
        <p class="muted small">{words.secretHint}</p>
      </Dialog>
    );
  return (
    <Dialog
      title={words.add}
      onClose={onClose}
      foot={
        <>
          <Button onClick={onClose}>{common().cancel}</Button>
          <Button kind="primary" busy={busy} disabled={!name.trim() || scopes.length === 0} onClick={() => void submit()}>
            {words.add}
          </Button>
        </>
      }
    >
      <form class="stack" onSubmit={(event) => void submit(event)}>
        {error && <Notice kind="bad">{error}</Notice>}
        <TextField label={words.name} value={name} onValue={setName} error={field("name")} maxLength={200} required autofocus />
        <Ticks label={words.scopes} options={offered.map((one) => ({ value: one, label: text().scopes[one] }))} value={scopes} onValue={setScopes} />
        <Ticks label={words.cameras} hint={words.camerasHint} options={(cameras.value ?? []).map((one) => ({ value: one.id, label: one.name }))} value={only} onValue={setOnly} />
        <TextField label={words.days} hint={words.daysHint} type="number" min={1} max={3650} value={days} onValue={setDays} error={field("days")} />
      </form>
    </Dialog>
  );
}
