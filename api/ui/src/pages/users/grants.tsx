/** What somebody may see: all cameras, or some, or those of groups. */
import type { GrantsIn } from "../../api/schema";
import { CheckBox } from "../../components/field";
import { Ticks } from "../../components/ticks";
import { common } from "../../i18n/common";
import { cameras, groups } from "../../store/cameras";
import { text as page } from "./texts";

export function GrantsField({ value, onValue }: { value: GrantsIn; onValue: (value: GrantsIn) => void }) {
  const words = page().users;
  return (
    <fieldset class="field">
      <legend class="label-like">{words.grants}</legend>
      <CheckBox label={words.grantAll} checked={value.all_cameras} onValue={(all_cameras) => onValue({ ...value, all_cameras })} />
      {!value.all_cameras && (
        <>
          <Ticks label={common().cameras} options={(cameras.value ?? []).map((one) => ({ value: one.id, label: one.name }))} value={value.cameras} onValue={(chosen) => onValue({ ...value, cameras: chosen })} />
          {groups.value.length > 0 && <Ticks label={words.groups(groups.value.length)} options={groups.value.map((one) => ({ value: one.id, label: one.name }))} value={value.groups} onValue={(chosen) => onValue({ ...value, groups: chosen })} />}
        </>
      )}
    </fieldset>
  );
}
