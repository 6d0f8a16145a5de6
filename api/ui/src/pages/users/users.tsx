/** The accounts: roles, what they see, and whether they may log in. */
import { useState } from "preact/hooks";
import { api, ask } from "../../api/client";
import type { ChangeUser, GrantsIn, Role, UserOut } from "../../api/schema";
import { Asked } from "../../components/asked";
import { Button } from "../../components/button";
import { Dialog } from "../../components/dialog";
import { CheckBox, SelectField, TextField, useSubmit } from "../../components/field";
import { Show } from "../../components/loaded";
import { Notice } from "../../components/states";
import { Switch } from "../../components/switch";
import { Table } from "../../components/table";
import { failed, toast } from "../../components/toast";
import { dateTime } from "../../i18n";
import { common, roles } from "../../i18n/common";
import { useLoad } from "../../load";
import { me } from "../../session";
import { GrantsField } from "./grants";
import { text } from "./texts";

const ROLES: readonly Role[] = ["viewer", "operator", "admin"];

export function Users() {
  const users = useLoad(() => ask(api.GET("/api/v1/users")));
  const [edited, setEdited] = useState<UserOut | "new" | null>(null);
  const words = text().users;
  const change = (user: UserOut, body: Partial<ChangeUser>): void =>
    void ask(api.PATCH("/api/v1/users/{user_id}", { params: { path: { user_id: user.id } }, body: { remove_second_factor: false, ...body } })).then(users.reload, failed);
  return (
    <Show of={users}>
      {(all) => (
        <>
          <div class="row">
            <Button kind="primary" icon="plus" onClick={() => setEdited("new")}>
              {words.add}
            </Button>
          </div>
          <Table
            caption={text().tabs.users}
            rows={all}
            rowKey={(one) => one.id}
            columns={[
              {
                key: "name",
                title: words.name,
                cell: (one) => (
                  <span class="row">
                    <strong class={one.enabled ? "" : "muted"}>{one.name}</strong>
                    {one.id === me.value?.id && <span class="badge good">{words.you}</span>}
                    {!one.enabled && <span class="badge">{words.off}</span>}
                  </span>
                ),
              },
              { key: "role", title: words.role, cell: (one) => roles()[one.role] },
              { key: "sees", title: words.sees, cell: (one) => sees(one) },
              { key: "factor", title: words.factor, cell: (one) => (one.second_factor ? <span class="badge good">{common().yes}</span> : <span class="muted">{common().no}</span>) },
              { key: "login", title: words.login, cell: (one) => <span class="num">{one.last_login_at ? dateTime(one.last_login_at) : common().never}</span> },
              {
                key: "do",
                title: common().actions,
                cell: (one) => (
                  <div class="actions">
                    <Switch label={words.on(one.name)} checked={one.enabled} disabled={one.id === me.value?.id} onValue={(enabled) => change(one, { enabled })} />
                    <Button small icon="edit" aria-label={`${words.edit}: ${one.name}`} onClick={() => setEdited(one)}>
                      {words.edit}
                    </Button>
                    {one.id !== me.value?.id && (
                      <Asked
                        small
                        quiet
                        word={common().remove}
                        label={words.remove(one.name)}
                        icon="trash"
                        title={words.remove(one.name)}
                        why={words.removeWhy}
                        onDo={async () => {
                          await ask(api.DELETE("/api/v1/users/{user_id}", { params: { path: { user_id: one.id } } }));
                          toast(words.removed(one.name));
                          await users.reload();
                        }}
                      />
                    )}
                  </div>
                ),
              },
            ]}
          />
          {edited && (
            <Editor
              user={edited === "new" ? null : edited}
              onClose={() => setEdited(null)}
              onSaved={() => {
                setEdited(null);
                toast(common().saved);
                void users.reload();
              }}
            />
          )}
        </>
      )}
    </Show>
  );
}

function sees(user: UserOut): string {
  const words = text().users;
  if (user.role === "admin" || user.grants.all_cameras) return words.all;
  const { cameras, groups } = user.grants;
  const parts = [...(cameras.length ? [words.cameras(cameras.length)] : []), ...(groups.length ? [words.groups(groups.length)] : [])];
  return parts.join(", ") || words.nothing;
}

const WORDS = "amber birch cedar delta ember fjord grove heron ivory jade kelp lotus maple north ocean pearl quartz river stone tiger umber violet willow zephyr".split(" ");

/** Four words and a number, by the browser's own chance: easy to say on the telephone. */
function suggested(): string {
  const chance = crypto.getRandomValues(new Uint32Array(6));
  const words = [...chance.slice(0, 5)].map((one) => WORDS[one % WORDS.length] ?? "stone");
  return `${words.join(" ")} ${(chance[5] ?? 0) % 1000}`;
}

function Editor({ user, onClose, onSaved }: { user: UserOut | null; onClose: () => void; onSaved: () => void }) {
  const words = text().users;
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [role, setRole] = useState<Role>(user?.role ?? "viewer");
  const [grants, setGrants] = useState<GrantsIn>(user?.grants ?? { all_cameras: false, cameras: [], groups: [] });
  const [language, setLanguage] = useState(user?.language === "ko" ? "ko" : "en");
  const [removeFactor, setRemoveFactor] = useState(false);
  const { busy, error, submit, field } = useSubmit(async () => {
    const tongue = language === "ko" ? ("ko" as const) : ("en" as const);
    if (user) {
      const body: ChangeUser = { grants, language: tongue, remove_second_factor: removeFactor, ...(role === user.role ? {} : { role }), ...(password ? { password } : {}) };
      await ask(api.PATCH("/api/v1/users/{user_id}", { params: { path: { user_id: user.id } }, body }));
    } else await ask(api.POST("/api/v1/users", { body: { name: name.trim(), password, role, grants, language: tongue } }));
    onSaved();
  });
  return (
    <Dialog
      title={user ? `${words.edit}: ${user.name}` : words.add}
      onClose={onClose}
      foot={
        <>
          <Button onClick={onClose}>{common().cancel}</Button>
          <Button kind="primary" busy={busy} onClick={() => void submit()}>
            {common().save}
          </Button>
        </>
      }
    >
      <form class="stack" onSubmit={(event) => void submit(event)}>
        {error && <Notice kind="bad">{error}</Notice>}
        {!user && <TextField label={words.name} value={name} onValue={setName} error={field("name")} autocomplete="off" autocapitalize="none" minLength={2} maxLength={64} required autofocus />}
        <div class="row bottom">
          <div class="grow">
            <TextField label={user ? words.newPassword : words.password} hint={user ? words.newPasswordHint : words.passwordHint} value={password} onValue={setPassword} error={field("password")} autocomplete="new-password" spellcheck={false} required={!user} />
          </div>
          <Button onClick={() => setPassword(suggested())}>{words.generate}</Button>
        </div>
        <div class="grid-2">
          <SelectField label={words.role} hint={words.roles[role]} value={role} disabled={user?.id === me.value?.id} onValue={(value) => setRole(value as Role)} options={ROLES.map((one) => ({ value: one, label: roles()[one] }))} />
          <SelectField
            label="Language · 언어"
            value={language}
            onValue={setLanguage}
            options={[
              { value: "en", label: "English" },
              { value: "ko", label: "한국어" },
            ]}
          />
        </div>
        {role === "admin" ? <p class="muted small">{words.adminSees}</p> : <GrantsField value={grants} onValue={setGrants} />}
        {user?.second_factor && <CheckBox label={words.removeFactor} checked={removeFactor} onValue={setRemoveFactor} />}
      </form>
    </Dialog>
  );
}
