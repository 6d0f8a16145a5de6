/** The list itself: days, rows, what waits above, what comes below. */
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import type { EventOut } from "../../api/schema";
import { Button } from "../../components/button";
import { Icon } from "../../components/icons";
import { SeverityMark } from "../../components/marks";
import { Empty, Failed, Loading } from "../../components/states";
import { clockTime, dayKey, dayName, duration, number } from "../../i18n";
import { eventStates, typeName } from "../../i18n/common";
import { reasonText } from "../../i18n/reasons";
import { may } from "../../session";
import { cameraName } from "../../store/cameras";
import { mediaUrl } from "./actions";
import { isFiltered } from "./filter";
import { current, cursor, events, letIn, loading, more, problem, read, selected, showWaiting, toggle, waiting } from "./list";
import { text } from "./texts";

const AHEAD_PX = 600;
const TOP_PX = 8;

export function Rows({ search }: { search: string }) {
  const box = useRef<HTMLDivElement>(null);
  const end = useRef<HTMLDivElement>(null);
  const last = useRef("");

  // What comes live goes on top only where nobody reads further down, points at a row, or has chosen one.
  useEffect(() => {
    letIn(() => {
      const list = box.current;
      const scrolled = list ? Math.max(list.scrollTop, list.scrollHeight > list.clientHeight ? 0 : scrollY) : 0;
      return scrolled <= TOP_PX && !current.peek() && !selected.peek().size && !list?.matches(":hover");
    });
    return () => letIn(() => true);
  }, []);

  useEffect(() => {
    const target = end.current;
    if (!target) return undefined;
    const observer = new IntersectionObserver((entries) => entries.at(-1)?.isIntersecting && void more(), {
      rootMargin: `${AHEAD_PX}px`,
    });
    observer.observe(target);
    return () => observer.disconnect();
  }, [cursor.value, loading.value]);

  useLayoutEffect(() => {
    if (!current.value) return;
    box.current?.querySelector(`[data-event="${current.value}"]`)?.scrollIntoView({ block: "nearest" });
  }, [current.value]);

  const choose = (event: MouseEvent, id: string): void => {
    const ids = events.peek().map((one) => one.id);
    const [a, b] = [ids.indexOf(last.current), ids.indexOf(id)];
    const on = !selected.peek().has(id);
    if (event.shiftKey && a >= 0) for (const one of ids.slice(Math.min(a, b), Math.max(a, b) + 1)) toggle(one, on);
    else toggle(id, on);
    last.current = id;
  };

  const list = events.value;
  const rows: preact.JSX.Element[] = [];
  let day = "";
  for (const event of list) {
    const own = dayKey(event.began_at);
    if (own !== day) {
      day = own;
      rows.push(
        <li key={own} class="day">
          <h2>{dayName(event.began_at)}</h2>
        </li>,
      );
    }
    rows.push(<Row key={event.id} event={event} search={search} onChoose={(mouse) => choose(mouse, event.id)} />);
  }
  return (
    <div class="rows" ref={box}>
      {waiting.value.length > 0 && (
        <div class="waiting">
          <Button
            kind="primary"
            small
            icon="up"
            onClick={() => {
              showWaiting();
              box.current?.scrollTo({ top: 0 });
            }}
          >
            {text().newEvents(waiting.value.length)}
          </Button>
        </div>
      )}
      <ol>{rows}</ol>
      {problem.value !== null && <Failed error={problem.value} onRetry={() => void (list.length ? more() : read())} />}
      {loading.value && <Loading />}
      {!loading.value && problem.value === null && list.length === 0 && cursor.value === null && (
        <Empty icon="events" title={isFiltered.value ? text().nothing : text().nothingYet}>
          {isFiltered.value ? text().nothingHint : text().nothingYetHint}
        </Empty>
      )}
      {!loading.value && cursor.value === null && list.length > 10 && <p class="muted small rows-end">{text().end}</p>}
      <div ref={end} class="rows-more" />
    </div>
  );
}

function Row({ event, search, onChoose }: { event: EventOut; search: string; onChoose: (mouse: MouseEvent) => void }) {
  const chosen = selected.value.has(event.id);
  const name = typeName(event.vlm_type);
  const classes = ["event-row", event.acknowledged_at && "done", chosen && "chosen", event.id === current.value && "current", event.state];
  return (
    <li class={classes.filter(Boolean).join(" ")} data-event={event.id}>
      {may("operator") && (
        <input
          type="checkbox"
          checked={chosen}
          aria-label={text().select(`${name}, ${clockTime(event.began_at)}`)}
          onClick={onChoose}
        />
      )}
      <a href={`/events/${event.id}${search}`} aria-current={event.id === current.value ? "true" : undefined}>
        <span class="event-thumb">
          {event.has_snapshot && <img src={mediaUrl(event.id, "snapshot")} alt="" loading="lazy" decoding="async" />}
        </span>
        <span class="event-words">
          <span class="row">
            <strong class="cut">{name}</strong>
            <span class="num muted push small">{clockTime(event.began_at)}</span>
          </span>
          <span class="cut small">
            {cameraName(event.camera_id)}
            <span class="muted">{event.reason && ` · ${reasonText(event.reason)}`}</span>
          </span>
          <span class="row small">
            <SeverityMark severity={event.severity} />
            <span class="num muted">{number(event.peak_score, 1)}</span>
            <span class={`num ${event.state === "open" ? "going-on" : "muted"}`}>
              {event.state === "open" ? eventStates().open : duration(event.duration_s)}
            </span>
            <span class="row push muted">
              {event.locked && <Icon name="lock" size={14} label={text().evidence} />}
              {event.acknowledged_at && <Icon name="check" size={16} label={text().acknowledged} />}
            </span>
          </span>
        </span>
      </a>
    </li>
  );
}
