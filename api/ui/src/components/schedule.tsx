/** Stretches of the week: always where there are none. */
import type { Weekly } from "../api/schema";
import { messages } from "../i18n";
import { Button } from "./button";

const text = messages(
  {
    always: "Always",
    never: "No quiet hours",
    add: "Add a time",
    from: "From",
    to: "To",
    nextDay: "of the next day",
    remove: "Remove this time",
    days: ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"].join(),
    longDays: ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"].join(),
    everyDay: "Every day",
    weekdays: "Mon–Fri",
    weekend: "Sat, Sun",
    allDay: "all day",
  },
  {
    always: "항상",
    never: "조용한 시간 없음",
    add: "시간 추가",
    from: "시작",
    to: "끝",
    nextDay: "다음 날까지",
    remove: "이 시간 삭제",
    days: ["월", "화", "수", "목", "금", "토", "일"].join(),
    longDays: ["월요일", "화요일", "수요일", "목요일", "금요일", "토요일", "일요일"].join(),
    everyDay: "매일",
    weekdays: "월–금",
    weekend: "토·일",
    allDay: "종일",
  },
);

const ALL = [1, 2, 3, 4, 5, 6, 7];

/** "Mon–Fri 08:00–18:00"; "" where there is none. */
export function scheduleWords(times: readonly Weekly[]): string {
  const names = text().days.split(",");
  return times
    .map((one) => {
      const key = [...one.days].sort().join("");
      const days = key === "1234567" ? text().everyDay : key === "12345" ? text().weekdays : key === "67" ? text().weekend : one.days.map((day) => names[day - 1]).join(", ");
      return one.begin === "00:00" && one.end === "24:00" ? `${days} ${text().allDay}` : `${days} ${one.begin}–${one.end}`;
    })
    .join("; ");
}

export function Schedule(props: {
  label: string;
  value: readonly Weekly[];
  /** What no times at all mean. */
  empty?: "always" | "never";
  disabled?: boolean;
  onValue: (value: Weekly[]) => void;
}) {
  const { value, onValue, disabled = false } = props;
  const names = text().days.split(",");
  const long = text().longDays.split(",");
  const put = (at: number, part: Partial<Weekly>): void => onValue(value.map((one, index) => (index === at ? { ...one, ...part } : one)));
  return (
    <fieldset class="field schedule">
      <legend class="label-like">{props.label}</legend>
      {value.length === 0 && <span class="muted small">{props.empty === "never" ? text().never : text().always}</span>}
      {value.map((one, at) => (
        <div key={at} class="times">
          <div class="segments days" role="group" aria-label={props.label}>
            {ALL.map((day) => {
              const on = one.days.includes(day);
              return (
                <button
                  key={day}
                  type="button"
                  aria-pressed={on}
                  title={long[day - 1] ?? ""}
                  disabled={disabled || (on && one.days.length === 1)}
                  onClick={() => put(at, { days: on ? one.days.filter((other) => other !== day) : [...one.days, day].sort() })}
                >
                  {names[day - 1]}
                </button>
              );
            })}
          </div>
          <div class="row">
            <input class="input" type="time" aria-label={`${text().from} ${at + 1}`} disabled={disabled} value={one.begin} required onChange={(event) => event.currentTarget.value && put(at, { begin: event.currentTarget.value })} />
            <span aria-hidden>–</span>
            <input class="input" type="time" aria-label={`${text().to} ${at + 1}`} disabled={disabled} value={one.end === "24:00" ? "00:00" : one.end} required onChange={(event) => event.currentTarget.value && put(at, { end: event.currentTarget.value === "00:00" ? "24:00" : event.currentTarget.value })} />
            {one.end !== "24:00" && one.end <= one.begin && <span class="muted small">{text().nextDay}</span>}
            {!disabled && <Button small kind="quiet" icon="trash" aria-label={text().remove} onClick={() => onValue(value.filter((_, index) => index !== at))} />}
          </div>
        </div>
      ))}
      {!disabled && value.length < 28 && (
        <div>
          <Button small icon="plus" aria-label={`${text().add}: ${props.label}`} onClick={() => onValue([...value, { days: [...ALL], begin: "08:00", end: "18:00" }])}>
            {text().add}
          </Button>
        </div>
      )}
    </fieldset>
  );
}

