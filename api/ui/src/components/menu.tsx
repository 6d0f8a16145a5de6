/** A button with what it offers beneath: buttons, or boxes to tick. Escape, or a click elsewhere, closes it. */
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { Icon, type IconName } from "./icons";

export function Menu({ label, icon, children }: { label: string; icon: IconName; children: ComponentChildren }) {
  const ref = useRef<HTMLDetailsElement>(null);
  useEffect(() => {
    const elsewhere = (event: Event): void => {
      const menu = ref.current;
      if (menu?.open && event.target instanceof Node && !menu.contains(event.target)) menu.open = false;
    };
    document.addEventListener("pointerdown", elsewhere);
    return () => document.removeEventListener("pointerdown", elsewhere);
  }, []);
  return (
    <details
      class="menu"
      ref={ref}
      onKeyDown={(event) => {
        if (event.key !== "Escape" || !ref.current?.open) return;
        event.stopPropagation();
        ref.current.open = false;
        ref.current.querySelector("summary")?.focus();
      }}
    >
      <summary class="button">
        <Icon name={icon} size={18} />
        <span class="cut">{label}</span>
        <Icon name="down" size={14} />
      </summary>
      <div
        class="menu-items"
        onClick={(event) => {
          if (event.target instanceof Element && event.target.closest("button, a") && ref.current) ref.current.open = false;
        }}
      >
        {children}
      </div>
    </details>
  );
}
