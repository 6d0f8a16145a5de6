import type { ComponentChildren } from "preact";
import { useId, useState } from "preact/hooks";
import { ApiProblem, told } from "../api/problem";
import { Icon } from "./icons";

type Common = { label: string; hint?: string | undefined; error?: string | undefined };

function Frame({ id, label, hint, error, children }: Common & { id: string; children: ComponentChildren }) {
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {children}
      {hint && !error && (
        <span class="hint" id={`${id}-hint`}>
          {hint}
        </span>
      )}
      {error && (
        <span class="error" id={`${id}-hint`} role="alert">
          <Icon name="alert" size={16} />
          {error}
        </span>
      )}
    </div>
  );
}

const described = (id: string, props: Common) => ({
  id,
  class: "input",
  "aria-invalid": props.error ? ("true" as const) : undefined,
  "aria-describedby": props.error || props.hint ? `${id}-hint` : undefined,
});

type Change = { value: string; onValue: (value: string) => void };

type InputProps = {
  name?: string;
  type?: "text" | "password" | "search" | "number" | "time" | "date" | "datetime-local" | "url" | "email";
  inputMode?: "text" | "numeric" | "decimal";
  autocomplete?: string;
  autocapitalize?: string;
  autofocus?: boolean;
  spellcheck?: boolean;
  placeholder?: string;
  required?: boolean;
  disabled?: boolean;
  readOnly?: boolean;
  min?: number | string;
  max?: number | string;
  step?: number | string;
  minLength?: number;
  maxLength?: number;
  rows?: number;
  onBlur?: () => void;
};

export function TextField({ label, hint, error, onValue, ...rest }: Common & Change & InputProps) {
  const id = useId();
  return (
    <Frame id={id} label={label} hint={hint} error={error}>
      <input {...(rest as object)} {...described(id, { label, hint, error })} onInput={(event) => onValue(event.currentTarget.value)} />
    </Frame>
  );
}

export function TextArea({ label, hint, error, onValue, ...rest }: Common & Change & Omit<InputProps, "type">) {
  const id = useId();
  return (
    <Frame id={id} label={label} hint={hint} error={error}>
      <textarea {...(rest as object)} {...described(id, { label, hint, error })} onInput={(event) => onValue(event.currentTarget.value)} />
    </Frame>
  );
}

export function SelectField(
  props: Common & Change & { options: readonly { value: string; label: string }[]; disabled?: boolean },
) {
  const id = useId();
  return (
    <Frame id={id} label={props.label} hint={props.hint} error={props.error}>
      <select
        {...described(id, props)}
        disabled={props.disabled}
        value={props.value}
        onChange={(event) => props.onValue(event.currentTarget.value)}
      >
        {props.options.map((one) => (
          <option key={one.value} value={one.value}>
            {one.label}
          </option>
        ))}
      </select>
    </Frame>
  );
}

export function CheckBox(props: {
  label: ComponentChildren;
  hint?: string;
  checked: boolean;
  disabled?: boolean;
  onValue: (checked: boolean) => void;
}) {
  return (
    <label class="check">
      <input
        type="checkbox"
        checked={props.checked}
        disabled={props.disabled}
        onChange={(event) => props.onValue(event.currentTarget.checked)}
      />
      <span>
        {props.label}
        {props.hint && <span class="muted small"> {props.hint}</span>}
      </span>
    </label>
  );
}

/** What a form sends: busy while it does, and what the server said of its fields, and of the rest. */
export function useSubmit(work: () => Promise<void>) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<unknown>(null);
  const fields: ReadonlyMap<string, string> = problem instanceof ApiProblem ? problem.fields : new Map<string, string>();
  const submit = async (event?: Event): Promise<void> => {
    event?.preventDefault();
    if (busy) return;
    setBusy(true);
    setProblem(null);
    try {
      await work();
    } catch (error) {
      setProblem(error);
    } finally {
      setBusy(false);
    }
  };
  return { busy, problem, submit, error: problem === null ? "" : told(problem), field: (name: string) => fields.get(name) };
}
