import { SelectField } from "../../components/field";
import { failed } from "../../components/toast";
import { messages } from "../../i18n";
import { chooseTimeZone, me } from "../../session";

const text = messages(
  { zone: "Times are shown in", browser: "The time zone of this browser" },
  { zone: "시각 표시 시간대", browser: "이 브라우저의 시간대" },
);
const ZONES = Intl.supportedValuesOf("timeZone");

/** The clock that all pages show, of this account. "UTC" is what a server has where nobody chose. */
export function TimeZone() {
  const now = me.value?.time_zone ?? "UTC";
  const shown = now === "UTC" ? "" : now;
  const all = [...new Set([...(shown ? [shown] : []), ...ZONES])];
  return (
    <SelectField
      label={text().zone}
      value={shown}
      onValue={(zone) => void chooseTimeZone(zone).catch(failed)}
      options={[{ value: "", label: text().browser }, ...all.map((one) => ({ value: one, label: one }))]}
    />
  );
}
