import type { ComponentChildren } from "preact";

/** One figure at a glance, what it is of, and what belongs beside it. */
export function Figure({ of, children, beside }: { of: string; children: ComponentChildren; beside?: ComponentChildren }) {
  return (
    <div class="card tile-figure">
      <span class="of">{of}</span>
      <span class="figure">{children}</span>
      {beside !== undefined && <span class="beside">{beside}</span>}
    </div>
  );
}
