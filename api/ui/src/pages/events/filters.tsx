/** What the list is asked for, as a form over the URL. */
import { useEffect, useRef, useState } from "preact/hooks";
import type { VlmType } from "../../api/schema";
import { Button, Segments } from "../../components/button";
import { SeverityIcon } from "../../components/icons";
import { fromWallClock, wallClock } from "../../i18n";
import { common, severities, types } from "../../i18n/common";
import { go, withQuery } from "../../router";
import { cameras } from "../../store/cameras";
import { filter, isFiltered, SEVERITIES, type Within } from "./filter";
import { text } from "./texts";

const TYPING_MS = 350;

const set = (changes: Record<string, string | readonly string[] | null>): void => go(withQuery(changes), { replace: true });


export function Filters() {
  const of = filter.value;
  const [words, setWords] = useState(of.text);
  const [between, setBetween] = useState(Boolean(of.from || of.to) && !of.within);
  const search = useRef<HTMLInputElement>(null);
  useEffect(() => setWords(of.text), [of.text]);
  useEffect(() => {
    if (words === of.text) return undefined;
    const timer = setTimeout(() => set({ text: words }), TYPING_MS);
    return () => clearTimeout(timer);
  }, [words]);
  useEffect(() => setBetween((before) => before || Boolean(of.from || of.to)), [of.from, of.to]);
  const shownTypes = Object.entries(types()) as [VlmType, string][];
  return (
    <form class="filters" role="search" aria-label={text().filters} onSubmit={(event) => event.preventDefault()}>
      <input
        ref={search}
        id="events-search"
        class="input search"
        type="search"
        placeholder={text().search}
        aria-label={text().search}
        value={words}
        onInput={(event) => setWords(event.currentTarget.value)}
      />
      <Segments
        label={text().review}
        value={of.acknowledged}
        onChange={(value) => set({ acknowledged: value })}
        options={[
          { value: "", label: common().all },
          { value: "false", label: text().toReview },
          { value: "true", label: text().acknowledged },
        ]}
      />
      <select class="input" aria-label={common().camera} value={of.cameras[0] ?? ""} onChange={(event) => set({ camera_id: event.currentTarget.value })}>
        <option value="">{text().anyCamera}</option>
        {(cameras.value ?? []).map((one) => (
          <option key={one.id} value={one.id}>
            {one.name}
          </option>
        ))}
      </select>
      <select class="input" aria-label={text().type} value={of.types[0] ?? ""} onChange={(event) => set({ vlm_type: event.currentTarget.value })}>
        <option value="">{text().anyType}</option>
        {shownTypes.map(([type, name]) => (
          <option key={type} value={type}>
            {name}
          </option>
        ))}
      </select>
      <select
        class="input"
        aria-label={text().time}
        value={of.within || (between ? "between" : "")}
        onChange={(event) => {
          const { value } = event.currentTarget;
          setBetween(value === "between");
          set({ within: value === "between" ? null : value, ...(value !== "between" && { from: null, to: null }) });
        }}
      >
        <option value="">{text().anyTime}</option>
        {PRESETS.map((one) => (
          <option key={one} value={one}>
            {{ "1h": text().hour, "24h": text().day, "7d": text().week, "30d": text().month }[one]}
          </option>
        ))}
        <option value="between">{text().between}</option>
      </select>
      {between && !of.within && (
        <span class="row">
          <input class="input" type="datetime-local" aria-label={text().from} value={wallClock(of.from)} onChange={(event) => set({ from: fromWallClock(event.currentTarget.value) })} />
          <span class="muted">–</span>
          <input class="input" type="datetime-local" aria-label={text().to} value={wallClock(of.to)} onChange={(event) => set({ to: fromWallClock(event.currentTarget.value) })} />
        </span>
      )}
      <span class="row severity-filter" role="group" aria-label={text().severity}>
        {SEVERITIES.map((one) => {
          const on = of.severities.includes(one);
          return (
            <button
              key={one}
              type="button"
              class={`severity-toggle ${one}`}
              aria-pressed={on}
              title={severities()[one]}
              onClick={() => set({ severity: on ? of.severities.filter((other) => other !== one) : [...of.severities, one] })}
            >
              <SeverityIcon severity={one} />
              <span>{severities()[one]}</span>
            </button>
          );
        })}
      </span>
      {isFiltered.value && (
        <Button small kind="quiet" icon="close" onClick={() => (setBetween(false), go(location.pathname, { replace: true }))}>
          {text().resetFilters}
        </Button>
      )}
    </form>
  );
}

const PRESETS: readonly Within[] = ["1h", "24h", "7d", "30d"];
