import { signal } from "@preact/signals";
import { told } from "../api/problem";
import { common } from "../i18n/common";
import { Button } from "./button";

type Toast = { id: number; text: string; bad: boolean; undo?: (() => void) | undefined };

const SHOWN_MS = 6000;
const MOST = 4;
const toasts = signal<readonly Toast[]>([]);
let next = 0;

function dismiss(id: number): void {
  toasts.value = toasts.value.filter((one) => one.id !== id);
}

function show(text: string, bad: boolean, undo?: () => void): void {
  const id = next++;
  toasts.value = [...toasts.value.filter((one) => one.text !== text).slice(1 - MOST), { id, text, bad, undo }];
  if (!bad) setTimeout(() => dismiss(id), undo ? SHOWN_MS * 2 : SHOWN_MS);
}

/** What was done; `undo` is offered for a while. */
export const toast = (text: string, undo?: () => void): void => show(text, false, undo);
/** What went wrong: stays until it is dismissed. */
export const failed = (error: unknown): void => show(told(error), true);

export function Toasts() {
  return (
    <div class="toasts" role="status" aria-live="polite">
      {toasts.value.map((one) => (
        <div key={one.id} class={`toast ${one.bad ? "bad" : ""}`}>
          <div>{one.text}</div>
          {one.undo && (
            <Button
              small
              onClick={() => {
                dismiss(one.id);
                one.undo?.();
              }}
            >
              {common().undo}
            </Button>
          )}
          <Button small kind="quiet" icon="close" aria-label={common().close} onClick={() => dismiss(one.id)} />
        </div>
      ))}
    </div>
  );
}
