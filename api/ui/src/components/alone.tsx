/** The frame of what comes before one is in: a card, and language and theme to choose. */
import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import { Looks } from "./looks";

export function Alone({ title, children }: { title: string; children: ComponentChildren }) {
  useEffect(() => {
    document.title = `${title} · Haetae`;
  }, [title]);
  return (
    <main class="alone">
      <div class="panel">
        <div class="brand">
          <img src="/icon.svg" alt="" width="40" height="40" />
          Haetae
        </div>
        <div class="card stack">
          <h1>{title}</h1>
          {children}
        </div>
        <Looks />
      </div>
    </main>
  );
}
