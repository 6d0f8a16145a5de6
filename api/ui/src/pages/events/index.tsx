/** Events: list, timeline and detail, reviewed by keyboard. */
import "./events.css";
import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { Button } from "../../components/button";
import { Dialog } from "../../components/dialog";
import { Empty } from "../../components/states";
import { failed } from "../../components/toast";
import { nav } from "../../i18n/nav";
import { keep, kept } from "../../kept";
import { type Key, useKeys } from "../../keyboard";
import { unseen } from "../../live/events";
import { go, query } from "../../router";
import { may } from "../../session";
import type { PageProps } from "..";
import { AckDialog } from "./ack";
import { saveExport } from "./actions";
import { Detail } from "./detail";
import { asked, filter } from "./filter";
import { Filters } from "./filters";
import { current, currentIndex, events, follow, read, selected, showWaiting, toggle } from "./list";
import { Rows } from "./rows";
import { text } from "./texts";
import { Timeline } from "./timeline";

const timelineShown = signal(kept("events.timeline") !== "off");
const wide = matchMedia("(min-width: 1101px)");

export default function Events({ params }: PageProps) {
  const id = params[0] ?? "";
  const [acking, setAcking] = useState<readonly string[] | null>(null);
  const [exporting, setExporting] = useState(false);
  const search = query.value.toString() ? `?${query.value.toString()}` : "";
  const asking = useRef<string | null>(null);

  useEffect(follow, []);
  useEffect(() => {
    if (asking.current === search) return;
    asking.current = search;
    void read();
  }, [search]);
  useEffect(() => {
    current.value = id;
  }, [id]);
  useEffect(() => unseen.subscribe((count) => count && (unseen.value = 0)), []);

  const open = (to: string, replace = true): void => go(`/events${to && `/${to}`}${search}`, { replace });
  const move = (by: number): void => {
    const next = events.value[currentIndex.value < 0 ? (by > 0 ? 0 : -1) : currentIndex.value + by];
    if (!next) return;
    current.value = next.id; // at once: another key may follow before the address has
    if (wide.matches || id) open(next.id);
    else {
      document.querySelector<HTMLElement>(`[data-event="${next.id}"] a`)?.focus();
    }
  };
  const ack = (): void => {
    const ids = selected.value.size ? [...selected.value] : current.value ? [current.value] : [];
    const left = ids.filter((one) => !events.value.some((event) => event.id === one && event.acknowledged_at));
    if (left.length && may("operator")) setAcking(left);
  };
  const keys: Key[] = [
    { keys: ["j"], label: text().keyNext, run: () => move(1) },
    { keys: ["k"], label: text().keyBefore, run: () => move(-1) },
    { keys: ["Enter"], label: text().keyOpen, run: () => current.value && open(current.value, false) },
    ...(may("operator")
      ? [
          { keys: ["a"], label: text().keyAck, run: ack },
          { keys: ["x"], label: text().keySelect, run: () => current.value && toggle(current.value) },
        ]
      : []),
    {
      keys: ["Escape"],
      label: text().keyBack,
      run: () => {
        if (selected.value.size) selected.value = new Set();
        else if (id) open("");
        else current.value = "";
      },
    },
    { keys: ["/"], label: text().keySearch, run: () => document.getElementById("events-search")?.focus() },
    {
      keys: ["t"],
      label: text().keyNewest,
      run: () => {
        showWaiting();
        const newest = events.value[0];
        if (newest) open(newest.id);
      },
    },
  ];
  useKeys(keys);

  const toggleTimeline = (): void => {
    timelineShown.value = !timelineShown.value;
    keep("events.timeline", timelineShown.value ? "on" : "off");
  };
  const done = (): void => {
    const one = acking?.length === 1 && acking[0] === current.value;
    setAcking(null);
    if (one) move(1); // on to the next, as a reviewer would
  };
  return (
    <div class={`page events${id ? " with-detail" : ""}`}>
      <div class="page-head events-head">
        <h1>{nav().events}</h1>
        <Button icon="statistics" aria-pressed={timelineShown.value} onClick={toggleTimeline}>
          {text().timeline}
        </Button>
        <Button icon="download" onClick={() => setExporting(true)}>
          {text().export}
        </Button>
      </div>
      <Filters />
      {timelineShown.value && <Timeline />}
      <div class="events-body">
        <div class="events-list">
          {may("operator") && <Bulk onAck={ack} />}
          <Rows search={search} />
        </div>
        <div class="events-detail">
          {id ? (
            <Detail key={id} id={id} onAck={() => setAcking([id])} onBack={() => open("", false)} />
          ) : (
            <Empty icon="events" title={text().choose}>
              {text().chooseHint}
            </Empty>
          )}
        </div>
      </div>
      {acking && <AckDialog ids={acking} onDone={done} onClose={() => setAcking(null)} />}
      {exporting && <ExportDialog onClose={() => setExporting(false)} />}
    </div>
  );
}

function Bulk({ onAck }: { onAck: () => void }) {
  const count = selected.value.size;
  const all = events.value.length > 0 && count === events.value.length;
  return (
    <div class="bulk">
      <label class="check">
        <input
          type="checkbox"
          checked={all}
          indeterminate={count > 0 && !all}
          onChange={() => (selected.value = all ? new Set() : new Set(events.value.slice(0, 500).map((one) => one.id)))}
        />
        <span class={count ? "" : "muted"}>{count ? text().selected(count) : text().selectAll}</span>
      </label>
      {count > 0 && (
        <span class="row push">
          <Button small kind="quiet" onClick={() => (selected.value = new Set())}>
            {text().clear}
          </Button>
          <Button small kind="primary" icon="check" onClick={onAck}>
            {text().acknowledge}
          </Button>
        </span>
      )}
    </div>
  );
}

function ExportDialog({ onClose }: { onClose: () => void }) {
  const [busy, setBusy] = useState<"csv" | "jsonl" | null>(null);
  const save = async (format: "csv" | "jsonl"): Promise<void> => {
    setBusy(format);
    try {
      await saveExport(asked(filter.value, Date.now()), format);
      onClose();
    } catch (error) {
      failed(error);
    }
    setBusy(null);
  };
  return (
    <Dialog title={text().export} onClose={onClose}>
      <p class="muted">{text().exportAbout}</p>
      <div class="row wrap">
        <Button icon="download" busy={busy === "csv"} onClick={() => void save("csv")}>
          {text().exportCsv}
        </Button>
        <Button icon="download" busy={busy === "jsonl"} onClick={() => void save("jsonl")}>
          {text().exportJson}
        </Button>
      </div>
    </Dialog>
  );
}
