/** Lines over time, drawn by uPlot in the colours of the theme; resized with its place. */
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { clockTime, dateTime, language, number, shortTime, timeZone } from "../i18n";
import { common } from "../i18n/common";
import { colour, isDark } from "../theme";

export type Line = {
  label: string;
  /** Name of a colour of styles/tokens.css. */
  colour: string;
  values: readonly (number | null)[];
  fill?: boolean;
  dashed?: boolean;
  digits?: number;
};

export function Chart(props: {
  label: string;
  /** Unix seconds, rising. */
  times: readonly number[];
  lines: readonly Line[];
  height?: number;
  /** The lowest top of the scale. */
  atLeast?: number;
}) {
  const box = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot | null>(null);
  const { times, lines } = props;
  const data = [times, ...lines.map((one) => one.values)] as unknown as uPlot.AlignedData;
  const look = `${isDark.value} ${language.value} ${timeZone.value} ${lines.map((one) => one.label).join("|")}`;
  useEffect(() => {
    const place = box.current;
    if (!place) return undefined;
    const height = props.height ?? 200;
    const drawn = new uPlot(options(props, place.clientWidth, height), data, place);
    chart.current = drawn;
    const observer = new ResizeObserver(() => drawn.setSize({ width: place.clientWidth, height }));
    observer.observe(place);
    return () => {
      observer.disconnect();
      drawn.destroy();
      chart.current = null;
    };
  }, [look]);
  useEffect(() => chart.current?.setData(data), [times, lines]);
  return <div class="chart" ref={box} role="img" aria-label={props.label} />;
}

function options(props: { lines: readonly Line[]; atLeast?: number }, width: number, height: number): uPlot.Options {
  const axis = { stroke: colour("ink-3"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  return {
    width,
    height,
    tzDate: (at) => (timeZone.value ? uPlot.tzDate(new Date(at * 1000), timeZone.value) : new Date(at * 1000)),
    cursor: { y: false, points: { size: 6 } },
    scales: { y: { range: (_, __, max) => [0, Math.max(props.atLeast ?? 1, max * 1.08)] } },
    axes: [
      {
        ...axis,
        space: 70,
        values: (_, splits, __, ___, increment) =>
          splits.map((at) => (increment >= 86_400 ? dateTime(new Date(at * 1000)).slice(0, 11) : shortTime(new Date(at * 1000)))),
      },
      { ...axis, size: 40, values: (_, splits) => splits.map((value) => number(value, value % 1 ? 1 : 0)) },
    ],
    series: [
      { label: common().time, value: (_, at) => ((at as number | null) === null ? "" : clockTime(new Date(at * 1000))) },
      ...props.lines.map((line) => ({
        label: line.label,
        stroke: colour(line.colour),
        width: 1.5,
        points: { show: false },
        spanGaps: false,
        ...(line.fill ? { fill: `${colour(line.colour)}22` } : {}),
        ...(line.dashed ? { dash: [5, 4] } : {}),
        value: (_: uPlot, value: number | null) => (value === null ? "–" : number(value, line.digits ?? 2)),
      })),
    ],
  };
}
