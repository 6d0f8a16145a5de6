/** Small words with a colour and a shape: severity, state of a camera. */
import type { CameraPhase, Severity } from "../api/schema";
import { phases, severities } from "../i18n/common";
import { SeverityIcon } from "./icons";

export function SeverityMark({ severity, bare }: { severity: Severity; bare?: boolean }) {
  const name = severities()[severity];
  return (
    <span class={`severity ${severity}`} title={bare ? name : undefined}>
      <SeverityIcon severity={severity} />
      <span class={bare ? "sr-only" : ""}>{name}</span>
    </span>
  );
}

const TONE: Record<CameraPhase, string> = {
  watching: "good",
  provisional: "good",
  learning: "",
  starting: "",
  connecting: "",
  stopping: "",
  stopped: "",
  disconnected: "bad",
  degraded: "warn",
  backoff: "bad",
  failed: "bad",
};

export function PhaseBadge({ phase, detail }: { phase: CameraPhase; detail?: string | undefined }) {
  return (
    <span class={`badge ${TONE[phase]}`} title={detail}>
      {phases()[phase]}
    </span>
  );
}
