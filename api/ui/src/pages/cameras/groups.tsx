/** Groups of cameras: what accounts are granted and rules are about. */
import { useState } from "preact/hooks";
import { api, ask } from "../../api/client";
import { ApiProblem } from "../../api/problem";
import type { CameraGroup, CameraOut } from "../../api/schema";
import { Button } from "../../components/button";
import { Dialog } from "../../components/dialog";
import { CheckBox, TextField, useSubmit } from "../../components/field";
import { Show } from "../../components/loaded";
import { Empty, Notice } from "../../components/states";
import { failed, toast } from "../../components/toast";
import { messages } from "../../i18n";
import { common } from "../../i18n/common";
import { useLoad } from "../../load";

const text = messages(
  {
    title: "Groups of cameras",
    lead: "Grant several cameras at once, and let rules be about them.",
    none: "No groups yet",
    add: "New group",
    count: (count: number) => (count === 1 ? "1 camera" : `${count} cameras`),
    edit: (name: string) => `Edit ${name}`,
    remove: (name: string) => `Remove ${name}`,
    removed: (name: string) => `${name} is removed.`,
  },
  {
    title: "카메라 그룹",
    lead: "여러 카메라를 한 번에 권한으로 주고, 규칙의 대상으로 쓸 수 있습니다.",
    none: "아직 그룹이 없습니다",
    add: "새 그룹",
    count: (count: number) => `카메라 ${count}대`,
    edit: (name: string) => `${name} 수정`,
    remove: (name: string) => `${name} 삭제`,
    removed: (name: string) => `${name}을(를) 삭제했습니다.`,
  },
);

export function Groups({ cameras, onClose }: { cameras: readonly CameraOut[]; onClose: () => void }) {
  const groups = useLoad(() => ask(api.GET("/api/v1/groups")));
  const [edited, setEdited] = useState<CameraGroup | "new" | null>(null);
  if (edited)
    return (
      <Editor
        group={edited === "new" ? null : edited}
        cameras={cameras}
        onClose={() => {
          setEdited(null);
          void groups.reload();
        }}
      />
    );
  return (
    <Dialog title={text().title} onClose={onClose} foot={<Button kind="primary" icon="plus" onClick={() => setEdited("new")}>{text().add}</Button>}>
      <p class="muted">{text().lead}</p>
      <Show of={groups}>
        {(all) =>
          all.length === 0 ? (
            <Empty icon="cameras" title={text().none} />
          ) : (
            <ul class="plain-rows">
              {all.map((group) => (
                <li key={group.id} class="row between">
                  <span class="cut">
                    <strong>{group.name}</strong> <span class="muted small">{text().count(group.cameras.length)}</span>
                  </span>
                  <span class="row">
                    <Button small kind="quiet" icon="edit" aria-label={text().edit(group.name)} onClick={() => setEdited(group)} />
                    <Button
                      small
                      kind="quiet"
                      icon="trash"
                      aria-label={text().remove(group.name)}
                      onClick={() => void remove(group).then(groups.reload)}
                    />
                  </span>
                </li>
              ))}
            </ul>
          )
        }
      </Show>
    </Dialog>
  );
}

async function remove(group: CameraGroup): Promise<void> {
  const { error, response } = await api.DELETE("/api/v1/groups/{group_id}", { params: { path: { group_id: group.id } } });
  if (!response.ok) failed(ApiProblem.from(error, response));
  else toast(text().removed(group.name));
}

function Editor({ group, cameras, onClose }: { group: CameraGroup | null; cameras: readonly CameraOut[]; onClose: () => void }) {
  const [name, setName] = useState(group?.name ?? "");
  const [chosen, setChosen] = useState<readonly string[]>(group?.cameras ?? []);
  const { busy, error, submit, field } = useSubmit(async () => {
    const body = { name: name.trim(), cameras: [...chosen] };
    if (group) await ask(api.PUT("/api/v1/groups/{group_id}", { params: { path: { group_id: group.id } }, body }));
    else await ask(api.POST("/api/v1/groups", { body }));
    toast(common().saved);
    onClose();
  });
  return (
    <Dialog
      title={group ? text().edit(group.name) : text().add}
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
      {error && <Notice kind="bad">{error}</Notice>}
      <form class="stack" onSubmit={(event) => void submit(event)}>
        <TextField label={common().name} value={name} onValue={setName} error={field("name")} required autofocus />
        <fieldset>
          <legend class="label-like">{common().cameras}</legend>
          {cameras.map((camera) => (
            <CheckBox
              key={camera.id}
              label={camera.name}
              checked={chosen.includes(camera.id)}
              onValue={(on) => setChosen(on ? [...chosen, camera.id] : chosen.filter((one) => one !== camera.id))}
            />
          ))}
        </fieldset>
      </form>
    </Dialog>
  );
}
