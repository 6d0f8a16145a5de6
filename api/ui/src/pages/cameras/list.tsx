import { useState } from "preact/hooks";
import { api, ask } from "../../api/client";
import type { CameraOut } from "../../api/schema";
import { Button, Segments } from "../../components/button";
import { Icon } from "../../components/icons";
import { Show } from "../../components/loaded";
import { Picture } from "../../components/picture";
import { Empty } from "../../components/states";
import { duration } from "../../i18n";
import { common } from "../../i18n/common";
import { useLoad } from "../../load";
import { may } from "../../session";
import { StartStop } from "./actions";
import { Groups } from "./groups";
import { hasPicture, kindOf, State, type Kind } from "./state";
import { text } from "./texts";

const EVERY_MS = 2000;
const PICTURE_MS = 5000;
const KINDS: readonly Kind[] = ["all", "trouble", "learning", "watching", "stopped"];

export function CameraList() {
  const cameras = useLoad(() => ask(api.GET("/api/v1/cameras")), "", EVERY_MS);
  const [kind, setKind] = useState<Kind>("all");
  const [search, setSearch] = useState("");
  const [groups, setGroups] = useState(false);
  return (
    <div class="page">
      <div class="page-head">
        <h1>{text().title}</h1>
        {may("admin") && (
          <>
            <Button onClick={() => setGroups(true)}>{text().groups}</Button>
            <a class="button primary" href="/cameras?add=1">
              <Icon name="plus" size={18} />
              {text().add}
            </a>
          </>
        )}
      </div>
      <Show of={cameras}>
        {(all) =>
          all.length === 0 ? (
            <Nothing />
          ) : (
            <>
              <div class="row wrap">
                <Segments<Kind>
                  label={common().state}
                  value={kind}
                  onChange={setKind}
                  options={KINDS.map((one) => ({ value: one, label: `${text().filters[one]} ${count(all, one)}` }))}
                />
                <input
                  class="input search"
                  type="search"
                  placeholder={common().search}
                  aria-label={common().search}
                  value={search}
                  onInput={(event) => setSearch(event.currentTarget.value)}
                />
              </div>
              <Rows
                cameras={all.filter((one) => (kind === "all" || kindOf(one) === kind) && matches(one, search))}
                onChange={(camera) => cameras.set(all.map((one) => (one.id === camera.id ? camera : one)))}
              />
              {groups && <Groups cameras={all} onClose={() => setGroups(false)} />}
            </>
          )
        }
      </Show>
    </div>
  );
}

const count = (cameras: readonly CameraOut[], kind: Kind): number =>
  kind === "all" ? cameras.length : cameras.filter((one) => kindOf(one) === kind).length;

const matches = (camera: CameraOut, search: string): boolean =>
  `${camera.name} ${camera.id} ${camera.url}`.toLowerCase().includes(search.trim().toLowerCase());

function Nothing() {
  return (
    <Empty icon="cameras" title={text().none}>
      {may("admin") ? text().noneLead : text().noneViewer}
    </Empty>
  );
}

function Rows({ cameras, onChange }: { cameras: readonly CameraOut[]; onChange: (camera: CameraOut) => void }) {
  if (cameras.length === 0) return <Empty icon="search" title={common().nothingFound} />;
  return (
    <ul class="camera-rows">
      {cameras.map((camera) => (
        <li key={camera.id} class="card">
          <a class="thumb" href={`/cameras/${camera.id}`} tabIndex={-1} aria-hidden>
            <Picture camera={camera.id} name={camera.name} width={320} everyMs={PICTURE_MS} on={hasPicture(camera)} />
          </a>
          <div class="stack tight grow">
            <div class="row">
              <a class="name cut" href={`/cameras/${camera.id}`}>
                {camera.name}
              </a>
              {camera.name !== camera.id && <span class="muted small cut">{camera.id}</span>}
            </div>
            <State camera={camera} />
            <div class="row wrap muted small">
              <span>{camera.vad_type}</span>
              <span>{freshness(camera)}</span>
              {camera.observed !== null && camera.observed.restarts > 0 && <span>{text().starts(camera.observed.restarts)}</span>}
            </div>
          </div>
          <div class="row camera-do">
            <StartStop camera={camera} small onChange={onChange} />
          </div>
        </li>
      ))}
    </ul>
  );
}

function freshness(camera: CameraOut): string {
  if (!camera.enabled) return text().wants.off;
  const age = camera.observed?.age_s;
  return age === null || age === undefined ? text().noPictureYet : text().newest(duration(age));
}
