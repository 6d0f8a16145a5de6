/** The score around an event: uPlot, in the colours of the theme. */
import "uplot/dist/uPlot.min.css";
import uPlot from "uplot";
import { useEffect, useRef } from "preact/hooks";
import type { EventOut, ScorePoint } from "../../api/schema";
import { clockTime, number } from "../../i18n";
import { colour, isDark } from "../../theme";
import { text } from "./texts";

const HEIGHT = 150;

export function ScoreCurve({ scores, event, open }: { scores: readonly ScorePoint[]; event: EventOut; open: number | null }) {
  const ref = useRef<HTMLDivElement>(null);
  const dark = isDark.value;
  useEffect(() => {
    const box = ref.current;
    if (!box) return undefined;
    const x: number[] = [];
    const y: (number | null)[] = [];
    for (const point of scores) {
      const at = Date.parse(point.at) / 1000;
      const last = x.at(-1);
      if (last !== undefined && at - last > 3) {
        x.push(last + 1); // a gap: nothing was judged
        y.push(null);
      }
      x.push(at);
      y.push(point.score);
    }
    const begin = Date.parse(event.began_at) / 1000;
    const end = event.ended_at ? Date.parse(event.ended_at) / 1000 : (x.at(-1) ?? begin);
    const [ink, line, accent, alarm] = ["ink-3", "line", "accent", event.severity].map((name) => colour(name));
    const axis = { stroke: ink ?? "", grid: { stroke: line ?? "", width: 1 }, ticks: { show: false }, font: `12px ${getComputedStyle(box).fontFamily}` };
    const plot = new uPlot(
      {
        width: box.clientWidth,
        height: HEIGHT,
        cursor: { y: false, drag: { x: false, y: false } },
        legend: { show: false },
        scales: { y: { range: (_plot, _low, high) => [0, Math.max(4, high * 1.08, (open ?? 0) * 1.3)] } },
        axes: [
          { ...axis, size: 30, values: (_plot, ticks) => ticks.map((at) => clockTime(new Date(at * 1000))), space: 90 },
          { ...axis, size: 34, values: (_plot, ticks) => ticks.map((one) => number(one, one % 1 ? 1 : 0)) },
        ],
        series: [{}, { stroke: accent ?? "", width: 2, points: { show: false }, spanGaps: false }],
        hooks: {
          drawClear: [
            (one) => {
              const { ctx, bbox } = one;
              const left = one.valToPos(begin, "x", true);
              const right = Math.max(left + 2, one.valToPos(end, "x", true));
              ctx.save();
              ctx.globalAlpha = 0.16;
              ctx.fillStyle = alarm ?? "";
              ctx.fillRect(left, bbox.top, right - left, bbox.height);
              ctx.restore();
            },
          ],
          draw: [
            (one) => {
              if (open === null) return;
              const { ctx, bbox } = one;
              const at = one.valToPos(open, "y", true);
              ctx.save();
              ctx.strokeStyle = ink ?? "";
              ctx.setLineDash([5, 5]);
              ctx.beginPath();
              ctx.moveTo(bbox.left, at);
              ctx.lineTo(bbox.left + bbox.width, at);
              ctx.stroke();
              ctx.restore();
            },
          ],
        },
      },
      [x, y],
      box,
    );
    const sized = new ResizeObserver(() => plot.setSize({ width: box.clientWidth, height: HEIGHT }));
    sized.observe(box);
    return () => {
      sized.disconnect();
      plot.destroy();
    };
  }, [scores, event.began_at, event.ended_at, event.severity, open, dark]);
  const highest = scores.reduce((top, one) => Math.max(top, one.score), 0);
  return (
    <figure class="curve" role="img" aria-label={`${text().curveAbout}. ${text().peak}: ${number(highest, 1)}`}>
      <div ref={ref} aria-hidden />
    </figure>
  );
}
