/** The zones of a camera: what they do, their names, times and shapes. */
import { useState } from "preact/hooks";
import { api, ask } from "../../api/client";
import type { CameraOut, Zone, ZoneKind } from "../../api/schema";
import { Button } from "../../components/button";
import { SelectField, TextField, useSubmit } from "../../components/field";
import { Show } from "../../components/loaded";
import { Schedule, scheduleWords } from "../../components/schedule";
import { Notice } from "../../components/states";
import { toast } from "../../components/toast";
import { messages } from "../../i18n";
import { common } from "../../i18n/common";
import { serverWords } from "../../i18n/server-words";
import { useKeys } from "../../keyboard";
import { useLoad } from "../../load";
import { may } from "../../session";
import { ZoneCanvas, type Point } from "./zone-canvas";

const text = messages(
  {
    draw: "Draw a zone",
    kinds: { detect: "Detect here", ignore: "Ignore", privacy: "Privacy mask", direction: "Right way" },
    why: {
      detect: "Where there are such zones, only what happens in them raises events.",
      ignore: "What happens here is neither scored nor learned: a tree in the wind, a screen.",
      privacy: "Black in every picture that leaves the camera's process: live, snapshots, clips.",
      direction: "The arrow is the way that is right here; rules and analysts know it by its name.",
    },
    names: { detect: "Area", ignore: "Ignored", privacy: "Masked", direction: "Lane" },
    how: "Tap or click the corners, and the first one again to close it. With the keyboard: arrow keys and Enter.",
    finish: "Close the zone",
    none: "No zones: everything in the picture counts.",
    kind: "What it does",
    name: "Name",
    direction: "Right way, degrees clockwise from the top",
    when: "When it holds",
    zones: "Zones",
    undo: "Undo the last change",
    remove: (name: string) => `Remove ${name}`,
    unsaved: "Not saved yet",
    viewOnly: "Only administrators change zones.",
    twice: "Two zones have the same name. Rules tell zones apart by their names.",
  },
  {
    draw: "구역 그리기",
    kinds: { detect: "감지 구역", ignore: "무시", privacy: "사생활 마스크", direction: "올바른 방향" },
    why: {
      detect: "이 구역이 있으면 이 안에서 일어난 일만 이벤트가 됩니다.",
      ignore: "이 안의 일은 점수를 매기지도 학습하지도 않습니다. 예: 바람에 흔들리는 나무, 화면.",
      privacy: "실시간, 스냅샷, 클립 등 카메라 프로세스를 나가는 모든 영상에서 검게 가립니다.",
      direction: "화살표가 이곳에서 올바른 방향입니다. 규칙과 분석기가 이름으로 사용합니다.",
    },
    names: { detect: "구역", ignore: "무시", privacy: "마스크", direction: "차로" },
    how: "모서리를 차례로 누르고 첫 점을 다시 누르면 닫힙니다. 키보드로는 화살표 키와 Enter를 사용하세요.",
    finish: "구역 닫기",
    none: "구역이 없습니다. 영상 전체를 감시합니다.",
    kind: "하는 일",
    name: "이름",
    direction: "올바른 방향, 위쪽에서 시계 방향 각도",
    when: "적용 시간",
    zones: "구역",
    undo: "마지막 변경 취소",
    remove: (name: string) => `${name} 삭제`,
    unsaved: "아직 저장하지 않음",
    viewOnly: "구역은 관리자만 바꿀 수 있습니다.",
    twice: "이름이 같은 구역이 있습니다. 규칙은 이름으로 구역을 구분합니다.",
  },
);

const KINDS: readonly ZoneKind[] = ["detect", "ignore", "privacy", "direction"];
const MOST = 64;
const UNDOABLE = 50;

export function Zones({ camera }: { camera: CameraOut }) {
  const params = { path: { camera_id: camera.id } };
  const stored = useLoad(async () => (await ask(api.GET("/api/v1/cameras/{camera_id}/zones", { params }))) as Zone[], camera.id);
  return <Show of={stored}>{(zones) => <Editor camera={camera} stored={zones} onSaved={stored.set} />}</Show>;
}

function Editor({ camera, stored, onSaved }: { camera: CameraOut; stored: Zone[]; onSaved: (zones: Zone[]) => void }) {
  const [zones, setZones] = useState<readonly Zone[]>(stored);
  const [past, setPast] = useState<readonly (readonly Zone[])[]>([]);
  const [settled, setSettled] = useState<readonly Zone[]>(stored);
  const [selected, setSelected] = useState<number | null>(null);
  const [drawing, setDrawing] = useState<readonly Point[] | null>(null);
  const [kind, setKind] = useState<ZoneKind>("detect");
  const fixed = !may("admin");
  const dirty = JSON.stringify(settled) !== JSON.stringify(stored);
  const twice = new Set(zones.map((one) => one.name)).size < zones.length;

  const settle = (next: readonly Zone[]): void => {
    if (next !== settled) setPast([...past, settled].slice(-UNDOABLE));
    setZones(next);
    setSettled(next);
  };
  const change = (at: number, zone: Zone, done: boolean): void => {
    const next = zones.map((one, index) => (index === at ? zone : one));
    if (done) settle(next);
    else setZones(next);
  };
  const remove = (at: number): void => {
    setSelected(null);
    settle(zones.filter((_, index) => index !== at));
  };
  const undo = (): void => {
    const before = past.at(-1);
    if (!before) return;
    setPast(past.slice(0, -1));
    setZones(before);
    setSettled(before);
    setSelected(null);
  };
  const begin = (): void => {
    setSelected(null);
    setDrawing([]);
    requestAnimationFrame(() => document.querySelector<SVGSVGElement>(".zone-canvas > svg")?.focus());
  };
  const drawn = (): void => {
    if (!drawing || drawing.length < 3) return;
    const taken = new Set(zones.map((one) => one.name));
    let n = 1;
    while (taken.has(`${text().names[kind]} ${n}`)) n += 1;
    const zone: Zone = { name: `${text().names[kind]} ${n}`, kind, points: [...drawing] as Zone["points"], direction: kind === "direction" ? 0 : null, schedule: [] };
    setDrawing(null);
    settle([...zones, zone]);
    setSelected(zones.length);
  };
  const { busy, error, submit } = useSubmit(async () => {
    const params = { path: { camera_id: camera.id } };
    const saved = (await ask(api.PUT("/api/v1/cameras/{camera_id}/zones", { params, body: { zones: [...zones] } }))) as Zone[];
    setZones(saved);
    setSettled(saved);
    setPast([]);
    onSaved(saved);
    toast(common().saved);
  });
  useKeys(fixed ? [] : [{ keys: ["z"], label: text().undo, run: undo }]);
  const zone = selected === null ? undefined : zones[selected];
  return (
    <div class="zone-editor">
      <div class="stack tight">
        <ZoneCanvas
          camera={camera}
          zones={zones}
          kinds={text().kinds}
          selected={selected}
          drawing={drawing}
          drawKind={kind}
          fixed={fixed}
          onSelect={setSelected}
          onChange={change}
          onRemove={remove}
          onDraw={setDrawing}
          onDrawn={drawn}
        />
        {fixed ? (
          <p class="muted small">{text().viewOnly}</p>
        ) : (
          <div class="row wrap">
            {drawing ? (
              <>
                <Button kind="primary" icon="check" disabled={drawing.length < 3} onClick={drawn}>
                  {text().finish}
                </Button>
                <Button kind="quiet" onClick={() => setDrawing(null)}>
                  {common().cancel}
                </Button>
                <span class="muted small">{text().how}</span>
              </>
            ) : (
              <>
                <select class="input kind" aria-label={text().kind} value={kind} onChange={(event) => setKind(event.currentTarget.value as ZoneKind)}>
                  {KINDS.map((one) => (
                    <option key={one} value={one}>
                      {text().kinds[one]}
                    </option>
                  ))}
                </select>
                <Button icon="plus" disabled={zones.length >= MOST} onClick={begin}>
                  {text().draw}
                </Button>
                <span class="muted small why">{text().why[kind]}</span>
              </>
            )}
          </div>
        )}
      </div>
      <div class="stack">
        <section class="card stack tight" aria-label={text().zones}>
          <h2>{text().zones}</h2>
          {zones.length === 0 && <p class="muted">{text().none}</p>}
          <ul class="zone-list">
            {zones.map((one, at) => (
              <li key={at}>
                <button type="button" class="zone-item" aria-pressed={at === selected} onClick={() => setSelected(at === selected ? null : at)}>
                  <i class={`swatch ${one.kind}`} />
                  <span class="cut grow">{one.name}</span>
                  <span class="muted small cut">
                    {text().kinds[one.kind]}
                    {one.schedule.length > 0 && ` · ${scheduleWords(one.schedule)}`}
                  </span>
                </button>
              </li>
            ))}
          </ul>
        </section>
        {zone && selected !== null && (
          <section class="card stack" key={selected}>
            <TextField label={text().name} value={zone.name} disabled={fixed} maxLength={200} required onValue={(name) => change(selected, { ...zone, name }, true)} />
            <SelectField
              label={text().kind}
              hint={text().why[zone.kind]}
              value={zone.kind}
              disabled={fixed}
              onValue={(value) => change(selected, ofKind(zone, value as ZoneKind), true)}
              options={KINDS.map((one) => ({ value: one, label: text().kinds[one] }))}
            />
            {zone.kind === "direction" && (
              <TextField label={text().direction} type="number" min={0} max={359} step={1} disabled={fixed} value={String(zone.direction ?? 0)} onValue={(value) => change(selected, { ...zone, direction: ((Math.round(Number(value)) % 360) + 360) % 360 }, true)} />
            )}
            {zone.kind !== "privacy" && <Schedule label={text().when} value={zone.schedule} disabled={fixed} onValue={(schedule) => change(selected, { ...zone, schedule }, true)} />}
            {!fixed && (
              <div>
                <Button small kind="danger" icon="trash" onClick={() => remove(selected)}>
                  {text().remove(zone.name)}
                </Button>
              </div>
            )}
          </section>
        )}
        {twice && <Notice kind="warn">{text().twice}</Notice>}
        {error && <Notice kind="bad">{serverWords(error)}</Notice>}
        {!fixed && (
          <div class="row wrap">
            <Button kind="primary" busy={busy} disabled={!dirty || drawing !== null || zones.some((one) => !one.name.trim())} onClick={() => void submit()}>
              {common().save}
            </Button>
            <Button kind="quiet" disabled={past.length === 0} title={`${text().undo} (z)`} onClick={undo}>
              {common().undo}
            </Button>
            {dirty && <span class="badge warn">{text().unsaved}</span>}
          </div>
        )}
      </div>
    </div>
  );
}

function ofKind(zone: Zone, kind: ZoneKind): Zone {
  return { ...zone, kind, direction: kind === "direction" ? (zone.direction ?? 0) : null, schedule: kind === "privacy" ? [] : zone.schedule };
}
