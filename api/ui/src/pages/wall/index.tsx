/** The wall: all cameras live. */
import "./wall.css";
import { computed, signal } from "@preact/signals";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Button, Segments } from "../../components/button";
import { Icon } from "../../components/icons";
import { Empty, Failed, Loading } from "../../components/states";
import { nav } from "../../i18n/nav";
import { keep, kept } from "../../kept";
import { type Key, useKeys } from "../../keyboard";
import { full } from "../../layout";
import { go, query, withQuery } from "../../router";
import { me } from "../../session";
import { cameras, camerasProblem, groups, readCameras } from "../../store/cameras";
import { Feed, openEvents, useLatest } from "./feed";
import { text } from "./texts";
import { Tile } from "./tile";

const SIZES = [1, 4, 9, 16, 25] as const;
const MOST = 25;

const size = signal(Number(kept("wall.size")) || 0);
const heat = signal(kept("wall.heat") === "on");
const feed = signal(kept("wall.feed") !== "off");
const group = computed(() => query.value.get("group") ?? "");
const chosen = computed(() => query.value.get("camera"));

function setSize(count: number): void {
  keep("wall.size", String(count));
  size.value = count;
  go(withQuery({ page: null }), { replace: true });
}

function setHeat(on: boolean): void {
  keep("wall.heat", on ? "on" : "off");
  heat.value = on;
}

function setFeed(on: boolean): void {
  keep("wall.feed", on ? "on" : "off");
  feed.value = on;
}

const open = (camera: string | null): void => go(withQuery({ camera }));

function toggleFull(): void {
  if (document.fullscreenElement) void document.exitFullscreen();
  else if (full.value) full.value = false;
  else {
    full.value = true;
    document.documentElement.requestFullscreen().catch(() => {
      // the page alone then, without the browser's own frame going away
    });
  }
}

export default function Wall() {
  useLatest();
  useEffect(() => {
    const left = (): void => {
      if (!document.fullscreenElement) full.value = false;
    };
    document.addEventListener("fullscreenchange", left);
    return () => document.removeEventListener("fullscreenchange", left);
  }, []);
  const all = cameras.value;
  const problem = camerasProblem.value;
  if (!all) return problem ? <Failed error={problem} onRetry={() => void readCameras()} /> : <Loading />;
  if (!all.length) {
    return (
      <Empty icon="cameras" title={text().none}>
        {me.value?.role === "admin" ? text().noneHint : text().noneGranted}
      </Empty>
    );
  }
  return <Tiles />;
}

function Tiles() {
  const grid = useRef<HTMLDivElement>(null);
  const inGroup = groups.value.find((one) => one.id === group.value);
  const all = (cameras.value ?? []).filter((one) => !inGroup || inGroup.cameras.includes(one.id));
  const large = chosen.value === null ? undefined : all.find((one) => one.id === chosen.value);
  const perPage = large ? 1 : Math.max(1, size.value || Math.min(all.length, MOST));
  const pages = Math.max(1, Math.ceil(all.length / perPage));
  const page = Math.min(pages, Math.max(1, Number(query.value.get("page")) || 1));
  const shown = large ? [large] : all.slice((page - 1) * perPage, page * perPage);
  const events = openEvents();
  const columns = useColumns(grid, large ? 1 : size.value ? perPage : shown.length);

  const turn = (by: number): void => {
    if (large) {
      const at = all.indexOf(large);
      const next = all[(at + by + all.length) % all.length];
      if (next) go(withQuery({ camera: next.id }), { replace: true });
    } else go(withQuery({ page: String(((page - 1 + by + pages) % pages) + 1) }), { replace: true });
  };
  const move = (by: number): void => {
    const tiles = [...(grid.current?.querySelectorAll<HTMLElement>(".tile .open") ?? [])];
    const at = tiles.indexOf(document.activeElement as HTMLElement);
    tiles[at < 0 ? 0 : Math.min(tiles.length - 1, Math.max(0, at + by))]?.focus();
  };
  const keys: Key[] = [
    { keys: ["ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp"], label: text().next, run: () => undefined },
    { keys: ["Enter"], label: text().enlarge, run: () => undefined },
    { keys: ["Escape"], label: text().back, run: () => (large ? open(null) : full.value && toggleFull()) },
    { keys: ["PageDown", "]"], label: text().after, run: () => turn(1) },
    { keys: ["PageUp", "["], label: text().before, run: () => turn(-1) },
    ...SIZES.map((count, index): Key => ({ keys: [String(index + 1)], label: text().tiles(count), run: () => setSize(count) })),
    { keys: ["0"], label: text().auto, run: () => setSize(0) },
    { keys: ["h"], label: text().heat, run: () => setHeat(!heat.value) },
    { keys: ["l"], label: text().feed, run: () => setFeed(!feed.value) },
    { keys: ["f"], label: text().full, run: toggleFull },
  ];
  useKeys(keys);

  const arrows = (event: KeyboardEvent): void => {
    const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    if (large) turn(by > 0 ? 1 : -1);
    else move(by);
  };
  useEffect(() => {
    const anywhere = (event: KeyboardEvent): void => {
      if (event.target === document.body || event.target === document.getElementById("main")) arrows(event);
    };
    addEventListener("keydown", anywhere, { capture: true });
    return () => removeEventListener("keydown", anywhere, { capture: true });
  });

  return (
    <div class={`page wall${feed.value ? " with-feed" : ""}`}>
      <div class="page-head wall-head">
        {large ? (
          <>
            <Button icon="left" onClick={() => open(null)}>
              {text().back}
            </Button>
            <h1 class="cut">{large.name}</h1>
          </>
        ) : (
          <h1>{nav().wall}</h1>
        )}
        {!large && groups.value.length > 0 && (
          <label class="row">
            <span class="sr-only">{text().group}</span>
            <select
              class="input"
              value={group.value}
              onChange={(event) => go(withQuery({ group: event.currentTarget.value || null, page: null }), { replace: true })}
            >
              <option value="">{text().allCameras}</option>
              {groups.value.map((one) => (
                <option key={one.id} value={one.id}>
                  {one.name}
                </option>
              ))}
            </select>
          </label>
        )}
        {pages > 1 && !large && (
          <span class="row" role="group">
            <Button small kind="quiet" icon="left" aria-label={text().before} onClick={() => turn(-1)} />
            <span class="num">{text().page(page, pages)}</span>
            <Button small kind="quiet" icon="right" aria-label={text().after} onClick={() => turn(1)} />
          </span>
        )}
        {!large && (
          <Segments
            label={text().layout}
            value={size.value}
            onChange={setSize}
            options={[
              { value: 0, label: text().auto },
              ...SIZES.map((count) => ({ value: count, label: String(count), title: text().tiles(count) })),
            ]}
          />
        )}
        <Button icon="heat" aria-pressed={heat.value} aria-label={`${text().heat} (h)`} onClick={() => setHeat(!heat.value)} />
        <Button icon="events" aria-pressed={feed.value} aria-label={`${text().feed} (l)`} onClick={() => setFeed(!feed.value)} />
        <Button icon="full" aria-label={`${text().full} (f)`} onClick={toggleFull} />
      </div>
      <div class="wall-body">
        <div class="grid" ref={grid} data-columns={columns} onKeyDown={arrows}>
          {shown.map((camera) => (
            <Tile
              key={`${camera.id} ${large ? "large" : ""}`}
              camera={camera}
              large={large !== undefined}
              heat={heat.value}
              event={events.get(camera.id)}
              onOpen={() => open(camera.id)}
            />
          ))}
        </div>
        {feed.value && !full.value && <Feed camera={large?.id ?? null} />}
      </div>
      {full.value && (
        <button class="leave-full" type="button" aria-label={text().leaveFull} title={`${text().leaveFull} (f)`} onClick={toggleFull}>
          <Icon name="unfull" />
        </button>
      )}
    </div>
  );
}

/** So many columns that tiles of 16:9 become as large as they can; set as a variable that the style sheet reads. */
function useColumns(grid: { current: HTMLDivElement | null }, count: number): number {
  const [box, setBox] = useState<{ width: number; height: number }>({ width: 16, height: 9 });
  useEffect(() => {
    const element = grid.current;
    if (!element) return undefined;
    const observer = new ResizeObserver(([entry]) => {
      if (entry) setBox({ width: entry.contentRect.width, height: entry.contentRect.height });
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  return useMemo(() => {
    let best = 1;
    let most = 0;
    for (let columns = 1; columns <= count; columns += 1) {
      const rows = Math.ceil(count / columns);
      const scale = Math.min(box.width / columns / 16, box.height / rows / 9);
      if (scale > most * 1.001) [best, most] = [columns, scale];
    }
    grid.current?.style.setProperty("--columns", String(best));
    grid.current?.style.setProperty("--rows", String(Math.ceil(count / best)));
    return best;
  }, [box, count]);
}
