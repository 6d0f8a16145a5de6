/** A share, 0..1, as a bar; its meaning stands beside it in words. */
export function Progress({ share, label, kind }: { share: number; label: string; kind?: "good" | "warn" | "bad" }) {
  const percent = Math.round(Math.max(0, Math.min(1, share)) * 1000) / 10;
  return (
    <div
      class={`progress ${kind ?? ""}`}
      role="progressbar"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.round(percent)}
    >
      <i style={{ width: `${percent}%` }} />
    </div>
  );
}
