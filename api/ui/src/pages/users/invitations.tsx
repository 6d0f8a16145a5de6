/** Invitations: somebody makes their own account, with the role and cameras that are set here. */
import { useState } from "preact/hooks";
import { api, ask } from "../../api/client";
import type { GrantsIn, Invitation, Role } from "../../api/schema";
import { Button } from "../../components/button";
import { Copy } from "../../components/copy";
import { Dialog } from "../../components/dialog";
import { SelectField, TextField, useSubmit } from "../../components/field";
import { Show } from "../../components/loaded";
import { Empty, Notice } from "../../components/states";
import { Table } from "../../components/table";
import { failed, toast } from "../../components/toast";
import { dateTime } from "../../i18n";
import { common, roles } from "../../i18n/common";
import { useLoad } from "../../load";
import { setUp } from "../../session";
import { GrantsField } from "./grants";
import { text } from "./texts";

const ROLES: readonly Role[] = ["viewer", "operator", "admin"];

export function Invitations() {
  const found = useLoad(() => ask(api.GET("/api/v1/invitations")));
  const [made, setMade] = useState(false);
  const words = text().invitations;
  const closed = setUp.value?.registration === "closed";
  const withdraw = (one: Invitation): void =>
    void ask(api.DELETE("/api/v1/invitations/{invitation_id}", { params: { path: { invitation_id: one.id } } })).then(() => {
      toast(words.withdrawn);
      void found.reload();
    }, failed);
  return (
    <>
      <p class="muted">{words.lead}</p>
      {closed ? (
        <Notice>{words.closed}</Notice>
      ) : (
        <div class="row">
          <Button kind="primary" icon="plus" onClick={() => setMade(true)}>
            {words.add}
          </Button>
        </div>
      )}
      <Show of={found}>
        {(all) =>
          all.length === 0 ? (
            <Empty icon="users" title={words.none} />
          ) : (
            <Table
              caption={text().tabs.invitations}
              rows={all}
              rowKey={(one) => one.id}
              columns={[
                { key: "note", title: words.note, cell: (one) => one.note || "–" },
                { key: "role", title: text().users.role, cell: (one) => roles()[one.role] },
                { key: "by", title: words.by, cell: (one) => one.created_by },
                { key: "expires", title: words.expires, cell: (one) => <span class="num">{dateTime(one.expires_at)}</span> },
                {
                  key: "state",
                  title: common().state,
                  cell: (one) =>
                    one.used_at ? <span class="badge good">{words.used}</span> : Date.parse(one.expires_at) < Date.now() ? <span class="badge">{words.over}</span> : <span class="badge warn">{words.open}</span>,
                },
                {
                  key: "do",
                  title: common().actions,
                  cell: (one) =>
                    !one.used_at && (
                      <Button small aria-label={`${words.withdraw}: ${one.note || dateTime(one.created_at)}`} onClick={() => withdraw(one)}>
                        {words.withdraw}
                      </Button>
                    ),
                },
              ]}
            />
          )
        }
      </Show>
      {made && (
        <Invite
          onClose={() => {
            setMade(false);
            void found.reload();
          }}
        />
      )}
    </>
  );
}

function Invite({ onClose }: { onClose: () => void }) {
  const words = text().invitations;
  const [note, setNote] = useState("");
  const [role, setRole] = useState<Role>("viewer");
  const [days, setDays] = useState("7");
  const [grants, setGrants] = useState<GrantsIn>({ all_cameras: false, cameras: [], groups: [] });
  const [token, setToken] = useState("");
  const { busy, error, submit } = useSubmit(async () => {
    const body = { note: note.trim(), role, days: Math.max(1, Math.round(Number(days)) || 7), grants };
    setToken((await ask(api.POST("/api/v1/invitations", { body }))).token);
  });
  if (token)
    return (
      <Dialog title={words.token} onClose={onClose} foot={<Button onClick={onClose}>{common().close}</Button>}>
        <Copy label={words.token} value={token} />
      </Dialog>
    );
  return (
    <Dialog
      title={words.add}
      onClose={onClose}
      foot={
        <>
          <Button onClick={onClose}>{common().cancel}</Button>
          <Button kind="primary" busy={busy} onClick={() => void submit()}>
            {words.add}
          </Button>
        </>
      }
    >
      <form class="stack" onSubmit={(event) => void submit(event)}>
        {error && <Notice kind="bad">{error}</Notice>}
        <TextField label={words.note} value={note} onValue={setNote} maxLength={200} autofocus />
        <div class="grid-2">
          <SelectField label={text().users.role} hint={text().users.roles[role]} value={role} onValue={(value) => setRole(value as Role)} options={ROLES.map((one) => ({ value: one, label: roles()[one] }))} />
          <TextField label={words.days} type="number" min={1} max={90} value={days} onValue={setDays} />
        </div>
        {role !== "admin" && <GrantsField value={grants} onValue={setGrants} />}
      </form>
    </Dialog>
  );
}
