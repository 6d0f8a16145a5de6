import { useId, useRef } from "preact/hooks";
import type { ComponentChildren } from "preact";

/** Tabs by the book: arrows move, Home and End jump; only the chosen one is in the order of Tab. */
export function Tabs<T extends string>(props: {
  label: string;
  value: T;
  tabs: readonly { value: T; label: string }[];
  onChange: (value: T) => void;
  children: ComponentChildren;
}) {
  const id = useId();
  const list = useRef<HTMLDivElement>(null);
  const move = (event: KeyboardEvent): void => {
    const at = props.tabs.findIndex((one) => one.value === props.value);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: props.tabs.length - 1 }[event.key];
    const chosen = to === undefined ? undefined : props.tabs[(to + props.tabs.length) % props.tabs.length];
    if (!chosen) return;
    event.preventDefault();
    props.onChange(chosen.value);
    list.current?.querySelector<HTMLElement>(`[data-tab="${chosen.value}"]`)?.focus();
  };
  return (
    <div class="stack">
      <div class="tabs" role="tablist" aria-label={props.label} ref={list} onKeyDown={move}>
        {props.tabs.map((one) => (
          <button
            key={one.value}
            type="button"
            role="tab"
            data-tab={one.value}
            id={`${id}-${one.value}`}
            aria-selected={one.value === props.value}
            aria-controls={`${id}-panel`}
            tabIndex={one.value === props.value ? 0 : -1}
            onClick={() => props.onChange(one.value)}
          >
            {one.label}
          </button>
        ))}
      </div>
      <div id={`${id}-panel`} role="tabpanel" aria-labelledby={`${id}-${props.value}`} class="stack">
        {props.children}
      </div>
    </div>
  );
}
