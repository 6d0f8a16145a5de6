/** Seconds by score, on a logarithmic scale: what is rare is what matters. */
import { duration, number } from "../../i18n";

export type Mark = { at: number; label: string; kind: "tried" | "now" };

const W = 720;
const H = 190;
const FOOT = 24;

export function Histogram({ seconds, width, lines, label }: { seconds: readonly number[]; width: number; lines: readonly Mark[]; label: string }) {
  const last = Math.max(seconds.findLastIndex((one) => one > 0) + 2, Math.ceil((Math.max(...lines.map((one) => one.at)) + 0.5) / width), 16);
  const bins = seconds.slice(0, last);
  const top = Math.log10(1 + Math.max(...bins, 1));
  const step = W / last;
  const beyond = Math.min(...lines.filter((one) => one.kind === "tried").map((one) => one.at));
  const x = (score: number): number => (score / width) * step;
  const total = seconds.reduce((sum, one) => sum + one, 0);
  const over = seconds.reduce((sum, one, index) => sum + (index * width >= beyond ? one : 0), 0);
  return (
    <svg class="histogram" viewBox={`0 -18 ${W} ${H + FOOT + 18}`} role="img" aria-label={`${label}: ${duration(total)}, > ${number(beyond, 1)}: ${duration(over)}`}>
      {bins.map((one, index) => {
        const height = one > 0 ? Math.max(2, (Math.log10(1 + one) / top) * H) : 0;
        return (
          <rect key={index} x={index * step + 1} y={H - height} width={Math.max(1, step - 2)} height={height} rx="1.5" class={index * width >= beyond ? "over" : ""}>
            <title>{`${number(index * width, 2)}–${number((index + 1) * width, 2)}: ${duration(one)}`}</title>
          </rect>
        );
      })}
      <line x1="0" x2={W} y1={H} y2={H} class="base" />
      {Array.from({ length: Math.floor(last * width) + 1 }, (_, score) => (
        <text key={score} x={x(score)} y={H + 17} text-anchor={score === 0 ? "start" : "middle"}>
          {score}
        </text>
      ))}
      {lines.map((one) => (
        <g key={one.kind} class={`mark ${one.kind}`}>
          <line x1={x(one.at)} x2={x(one.at)} y1={one.kind === "tried" ? -2 : 14} y2={H} />
          <text x={x(one.at) + (x(one.at) > W * 0.7 ? -6 : 6)} y={one.kind === "tried" ? -5 : 22} text-anchor={x(one.at) > W * 0.7 ? "end" : "start"}>
            {one.label}
          </text>
        </g>
      ))}
    </svg>
  );
}
