import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { told } from "../api/problem";
import { common } from "../i18n/common";
import { Button } from "./button";
import { Icon, type IconName } from "./icons";

/** Shown only after a moment: what comes at once does not flicker. */
export function Loading() {
  const [late, setLate] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setLate(true), 250);
    return () => clearTimeout(timer);
  }, []);
  return (
    <div class="state" role="status">
      {late && <span class="spinner" aria-hidden />}
      <span class={late ? "" : "sr-only"}>{common().loading}</span>
    </div>
  );
}

export function Empty({ icon = "eye", title, children }: { icon?: IconName; title: string; children?: ComponentChildren }) {
  return (
    <div class="state">
      <Icon name={icon} size={36} />
      <strong>{title}</strong>
      {children && <p>{children}</p>}
    </div>
  );
}

export function Failed({ error, onRetry }: { error: unknown; onRetry?: () => void }) {
  return (
    <div class="state" role="alert">
      <Icon name="alert" size={36} />
      <strong>{told(error)}</strong>
      {onRetry && (
        <Button icon="refresh" onClick={onRetry}>
          {common().retry}
        </Button>
      )}
    </div>
  );
}

export function Notice({ kind, children }: { kind?: "bad" | "warn"; children: ComponentChildren }) {
  return (
    <div class={`notice ${kind ?? ""}`} role={kind === "bad" ? "alert" : "note"}>
      <Icon name={kind ? "alert" : "help"} size={18} />
      <div>{children}</div>
    </div>
  );
}
