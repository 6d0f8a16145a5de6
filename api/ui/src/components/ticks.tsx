/** Any of several, as chips to tick; a long list scrolls within itself. */
import { Icon } from "./icons";

export function Ticks(props: {
  label: string;
  hint?: string;
  error?: string | undefined;
  options: readonly { value: string; label: string }[];
  value: readonly string[];
  disabled?: boolean;
  onValue: (value: string[]) => void;
}) {
  return (
    <fieldset class="field">
      <legend class="label-like">{props.label}</legend>
      <div class="chips">
        {props.options.map((one) => (
          <label key={one.value} class="chip">
            <input
              type="checkbox"
              checked={props.value.includes(one.value)}
              disabled={props.disabled}
              onChange={(event) => props.onValue(event.currentTarget.checked ? [...props.value, one.value] : props.value.filter((other) => other !== one.value))}
            />
            <Icon name="check" size={14} />
            {one.label}
          </label>
        ))}
      </div>
      {props.hint && <span class="hint">{props.hint}</span>}
      {props.error && <span class="error">{props.error}</span>}
    </fieldset>
  );
}
