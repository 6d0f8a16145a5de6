/**
 * Keys: a page names those that it answers to, and "?" lists them. They are silent while somebody writes, and while a
 * dialog is open that does not answer to them itself.
 */
import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { Dialog } from "./components/dialog";
import { CheckBox } from "./components/field";
import { messages } from "./i18n";
import { nav } from "./i18n/nav";
import { keep, kept } from "./kept";
import { go } from "./router";

const text = messages(
  { help: "This help", wall: "Go to the wall", events: "Go to the events", everywhere: "Everywhere", here: "On this page", escape: "Close, go back", on: "Single keys do something", onHint: "Switch it off if you dictate, or press them by accident. ? always works." },
  { help: "이 도움말", wall: "관제 화면으로", events: "이벤트로", everywhere: "어디서나", here: "이 페이지에서", escape: "닫기, 뒤로", on: "한 글자 단축키 사용", onHint: "음성 입력을 쓰거나 실수로 누르게 되면 끄세요. ?는 항상 동작합니다." },
);

export type Key = {
  /** As KeyboardEvent.key has it; several mean the same. */
  keys: readonly string[];
  label: string;
  /** Works while a dialog is open too. */
  inDialog?: boolean;
  run: () => void;
};

export const helpShown = signal(false);
const keysOn = signal(kept("keys") !== "off");
const active = signal<readonly (readonly Key[])[]>([]);

/** The page answers to these keys while it is shown. */
export function useKeys(keys: readonly Key[]): void {
  const now = useRef(keys);
  now.current = keys;
  useEffect(() => {
    const own: Key[] = keys.map((key, index) => ({ ...key, run: () => now.current[index]?.run() }));
    active.value = [...active.peek(), own];
    return () => {
      active.value = active.peek().filter((one) => one !== own);
    };
  }, [keys.map((key) => key.keys.join() + key.label).join()]);
}

const everywhere = (): Key[] => [
  { keys: ["?"], label: text().help, run: () => (helpShown.value = !helpShown.value) },
  { keys: ["g"], label: text().wall, run: () => go("/") },
  { keys: ["e"], label: text().events, run: () => go("/events") },
];

const writes = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && (target.isContentEditable || target.matches("input:not([type=checkbox],[type=range]), textarea, select"));

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || writes(event.target)) return;
  const dialog = document.querySelector("dialog[open]") !== null;
  const keys = [...active.peek().flat().reverse(), ...everywhere()];
  const found = keys.find((one) => one.keys.includes(event.key) && (!dialog || one.inDialog));
  if (!found || (!keysOn.peek() && event.key !== "?" && event.key.length === 1)) return;
  // Space and Enter belong to what has the focus
  if ((event.key === " " || event.key === "Enter") && event.target instanceof Element && event.target.closest("button, a, summary, video")) return;
  event.preventDefault();
  found.run();
});

const NAMES: Record<string, string> = { " ": "Space", ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→", Escape: "Esc" };

function List({ title, keys }: { title: string; keys: readonly Key[] }) {
  return (
    <section class="stack tight">
      <h3>{title}</h3>
      <dl class="facts">
        {keys.map((one) => (
          <>
            <dt class="row">
              {one.keys.map((key) => (
                <kbd key={key}>{NAMES[key] ?? key}</kbd>
              ))}
            </dt>
            <dd>{one.label}</dd>
          </>
        ))}
      </dl>
    </section>
  );
}

export function Help() {
  if (!helpShown.value) return null;
  const here = active.value.flat();
  const escape: Key = { keys: ["Escape"], label: text().escape, run: () => undefined };
  return (
    <Dialog title={nav().help} onClose={() => (helpShown.value = false)}>
      {here.length > 0 && <List title={text().here} keys={here} />}
      <List title={text().everywhere} keys={[...everywhere(), escape]} />
      <CheckBox
        label={text().on}
        hint={text().onHint}
        checked={keysOn.value}
        onValue={(on) => {
          keep("keys", on ? "on" : "off");
          keysOn.value = on;
        }}
      />
    </Dialog>
  );
}
