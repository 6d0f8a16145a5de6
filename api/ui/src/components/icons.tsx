/** Icons, 24 x 24, drawn in the colour of their text; decoration unless `label` says what they mean. */
import type { Severity } from "../api/schema";

const SHAPES = {
  wall: "M4 5h7v6H4zM13 5h7v6h-7zM4 13h7v6H4zM13 13h7v6h-7z",
  events: "M12 3v3M12 18v3M3 12h3M18 12h3M12 8a4 4 0 1 1 0 8 4 4 0 0 1 0-8z",
  cameras: "M3 8h11v8H3zM14 11l6-3v8l-6-3",
  statistics: "M4 20V10M10 20V4M16 20v-7M21 20H3",
  rules: "M6 9a6 6 0 0 1 12 0c0 5 2 6 2 6H4s2-1 2-6M10 19a2 2 0 0 0 4 0",
  system: "M4 5h16v6H4zM4 13h16v6H4zM8 8h.01M8 16h.01",
  users: "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM3 20a6 6 0 0 1 12 0M16 4.5a3.5 3.5 0 0 1 0 6M17.5 14.5A6 6 0 0 1 21 20",
  person: "M12 11a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4.5 21a7.5 7.5 0 0 1 15 0",
  close: "M6 6l12 12M18 6 6 18",
  check: "M5 12.5 10 17.5 19.5 7",
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
  down: "M5 9l7 7 7-7",
  up: "M5 15l7-7 7 7",
  search: "M11 4a7 7 0 1 1 0 14 7 7 0 0 1 0-14zM16 16l5 5",
  filter: "M3 5h18l-7 8v6l-4 2v-8z",
  download: "M12 4v11M7 11l5 5 5-5M4 20h16",
  lock: "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
  unlock: "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 6.8-1.2",
  alert: "M12 4 2.5 20h19zM12 10v4M12 17h.01",
  help: "M9.3 9a2.8 2.8 0 1 1 4 2.6c-.9.5-1.3 1-1.3 2M12 17h.01M12 3a9 9 0 1 1 0 18 9 9 0 0 1 0-18z",
  full: "M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5",
  unfull: "M9 4v5H4M20 9h-5V4M15 20v-5h5M4 15h5v5",
  heat: "M12 3c1 4 5 5.5 5 10.5a5 5 0 0 1-10 0C7 10.5 9 10 9.5 7.5 11 8.5 11.5 10 11.5 11 12.5 9 12.5 6 12 3z",
  bell: "M6 10a6 6 0 0 1 12 0c0 5 2 6 2 6H4s2-1 2-6M10 20h4",
  muted: "M6 10a6 6 0 0 1 9-5.2M18 11c.2 4 2 5 2 5H8M10 20h4M4 3l17 18",
  out: "M10 4H5v16h5M15 8l4 4-4 4M19 12H9",
  sun: "M12 8a4 4 0 1 1 0 8 4 4 0 0 1 0-8zM12 2v2M12 20v2M4.9 4.9l1.4 1.4M17.7 17.7l1.4 1.4M2 12h2M20 12h2M4.9 19.1l1.4-1.4M17.7 6.3l1.4-1.4",
  play: "M7 4.5v15l12-7.5z",
  stop: "M6 6h12v12H6z",
  refresh: "M20 11a8 8 0 1 0-.5 4M20 5v6h-6",
  edit: "M4 20l1-5L16 4l4 4L9 19zM13.5 6.5l4 4",
  trash: "M4 7h16M9 7V4h6v3M6.5 7l1 13h9l1-13M10 11v5M14 11v5",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  eye: "M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12zM12 9a3 3 0 1 1 0 6 3 3 0 0 1 0-6z",
  off: "M3 3l18 18M10.5 5.7A9 9 0 0 1 12 5.5c6 0 9.5 6.5 9.5 6.5a17 17 0 0 1-2.7 3.5M6.5 7.2A17 17 0 0 0 2.5 12S6 18.5 12 18.5a9 9 0 0 0 4.7-1.4",
  settings: "M4 7h10M18 7h2M4 17h2M10 17h10M16 5v4M8 15v4",
} as const;

export type IconName = keyof typeof SHAPES;

export function Icon({ name, size = 20, label }: { name: IconName; size?: number; label?: string }) {
  return (
    <svg
      width={size}
      height={size}
      viewBox="0 0 24 24"
      fill="none"
      stroke="currentColor"
      stroke-width={1.75}
      stroke-linecap="round"
      stroke-linejoin="round"
      role={label ? "img" : undefined}
      aria-label={label}
      aria-hidden={label ? undefined : true}
    >
      <path d={SHAPES[name]} />
    </svg>
  );
}

/** A shape of its own for each severity, so that colour is never all there is. */
export function SeverityIcon({ severity, size = 14 }: { severity: Severity; size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 16 16" fill="currentColor" aria-hidden>
      {severity === "info" && <circle cx="8" cy="8" r="5" fill="none" stroke="currentColor" stroke-width="2" />}
      {severity === "low" && <circle cx="8" cy="8" r="6" />}
      {severity === "medium" && <path d="M8 1l7 7-7 7-7-7z" />}
      {severity === "high" && <path d="M8 1.5 15.5 14.5H.5z" />}
      {severity === "critical" && (
        <>
          <path d="M5 .8h6L15.2 5v6L11 15.2H5L.8 11V5z" />
          <path d="M8 4v5M8 11.6v.4" stroke="var(--surface)" stroke-width="2" stroke-linecap="round" />
        </>
      )}
    </svg>
  );
}
