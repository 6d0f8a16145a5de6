/**
 * Zones on the picture: drawn, moved and reshaped with mouse, finger and keyboard.
 *
 * Points are fractions of the picture, 0..1 from its top left, as the API has them. The keyboard: Tab goes from zone to
 * zone and from point to point, arrows move by a hundredth, with Shift by a twentieth, Delete removes. While one is
 * drawn, arrows move a cross, Enter puts a point there, and Escape gives up.
 */
import { useRef, useState } from "preact/hooks";
import type { CameraOut, Zone, ZoneKind } from "../../api/schema";
import { Picture } from "../../components/picture";
import { messages, percent } from "../../i18n";
import { hasPicture } from "./state";

export type Point = [number, number];

const text = messages(
  {
    canvas: (name: string) => `Zones on the picture of ${name}`,
    zone: (name: string, kind: string) => `${name}, ${kind}. Arrow keys move it, Delete removes it.`,
    point: (at: number, of: number, x: string, y: string) => `Point ${at} of ${of}: ${x} from the left, ${y} from the top. Arrow keys move it, Delete removes it.`,
    between: (at: number) => `Add a point after point ${at}`,
    arrow: (degrees: number) => `Direction: ${degrees}°. Arrow keys turn it.`,
    drawing: "Drawing: arrow keys move the cross, Enter puts a point, Escape gives up.",
  },
  {
    canvas: (name: string) => `${name} 영상 위의 구역`,
    zone: (name: string, kind: string) => `${name}, ${kind}. 화살표 키로 옮기고 Delete로 삭제합니다.`,
    point: (at: number, of: number, x: string, y: string) => `${of}개 중 ${at}번째 점: 왼쪽에서 ${x}, 위에서 ${y}. 화살표 키로 옮기고 Delete로 삭제합니다.`,
    between: (at: number) => `${at}번째 점 뒤에 점 추가`,
    arrow: (degrees: number) => `방향: ${degrees}°. 화살표 키로 돌립니다.`,
    drawing: "그리는 중: 화살표 키로 십자를 옮기고 Enter로 점을 찍고 Escape로 취소합니다.",
  },
);

const WIDTH = 1000;
const STEP = 0.01;
const LEAP = 0.05;
const ARROW = 90;

const clamp = (value: number): number => Math.max(0, Math.min(1, Math.round(value * 10_000) / 10_000));
const between = (a: Point, b: Point): Point => [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];

export function centre(points: readonly Point[]): Point {
  const sum = points.reduce<Point>((total, one) => [total[0] + one[0], total[1] + one[1]], [0, 0]);
  return [sum[0] / points.length, sum[1] / points.length];
}

/** All points by so much, as far as none leaves the picture. */
function moved(points: readonly Point[], dx: number, dy: number): Point[] {
  const xs = points.map((one) => one[0]);
  const ys = points.map((one) => one[1]);
  const x = Math.max(-Math.min(...xs), Math.min(1 - Math.max(...xs), dx));
  const y = Math.max(-Math.min(...ys), Math.min(1 - Math.max(...ys), dy));
  return points.map((one) => [clamp(one[0] + x), clamp(one[1] + y)]);
}

function arrows(event: KeyboardEvent): Point | null {
  const step = event.shiftKey ? LEAP : STEP;
  const moves: Record<string, Point> = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
  return moves[event.key] ?? null;
}

type Drag = { id: number; move: (at: Point) => void };

export function ZoneCanvas(props: {
  camera: CameraOut;
  zones: readonly Zone[];
  kinds: Readonly<Record<ZoneKind, string>>;
  selected: number | null;
  /** Points of the zone that is being drawn; null while none is. */
  drawing: readonly Point[] | null;
  drawKind: ZoneKind;
  fixed: boolean;
  onSelect: (at: number | null) => void;
  /** `settled` is false while it is still dragged. */
  onChange: (at: number, zone: Zone, settled: boolean) => void;
  onRemove: (at: number) => void;
  onDraw: (points: Point[] | null) => void;
  onDrawn: () => void;
}) {
  const svg = useRef<SVGSVGElement>(null);
  const drag = useRef<Drag | null>(null);
  const [ratio, setRatio] = useState(9 / 16);
  const [cross, setCross] = useState<Point>([0.5, 0.5]);
  const height = WIDTH * ratio;
  const { drawing, zones, selected } = props;

  const place = (event: PointerEvent): Point => {
    const box = svg.current?.getBoundingClientRect();
    if (!box) return [0, 0];
    return [clamp((event.clientX - box.left) / box.width), clamp((event.clientY - box.top) / box.height)];
  };
  const begin = (event: PointerEvent, move: (at: Point) => void): void => {
    if (props.fixed || drawing || event.button !== 0) return;
    event.stopPropagation();
    svg.current?.setPointerCapture(event.pointerId);
    drag.current = { id: event.pointerId, move };
  };
  const put = (at: number, part: Partial<Zone>, settled: boolean): void => {
    const zone = zones[at];
    if (zone) props.onChange(at, { ...zone, ...part }, settled);
  };
  const dragZone = (event: PointerEvent, at: number, zone: Zone): void => {
    const from = place(event);
    begin(event, (to) => put(at, { points: moved(zone.points, to[0] - from[0], to[1] - from[1]) }, false));
  };
  const dragPoint = (event: PointerEvent, at: number, points: readonly Point[], index: number): void =>
    begin(event, (to) => put(at, { points: points.map((one, n) => (n === index ? to : one)) }, false));
  const addAfter = (zone: Zone, index: number): Point[] => {
    const points = [...zone.points];
    const [a, b] = [points[index], points[(index + 1) % points.length]];
    if (a && b) points.splice(index + 1, 0, between(a, b));
    return points;
  };

  const down = (event: PointerEvent): void => {
    if (props.fixed || event.button !== 0) return;
    if (!drawing) {
      props.onSelect(null);
      return;
    }
    const at = place(event);
    const first = drawing[0];
    if (first && drawing.length > 2 && Math.hypot((at[0] - first[0]) * WIDTH, (at[1] - first[1]) * height) < 18) props.onDrawn();
    else if (drawing.length < 64) props.onDraw([...drawing, at]);
  };
  const key = (event: KeyboardEvent): void => {
    if (!drawing) return;
    const move = arrows(event);
    if (move) setCross([clamp(cross[0] + move[0]), clamp(cross[1] + move[1])]);
    else if (event.key === "Enter" || event.key === " ") {
      const first = drawing[0];
      if (first && drawing.length > 2 && first[0] === cross[0] && first[1] === cross[1]) props.onDrawn();
      else if (drawing.length < 64) props.onDraw([...drawing, cross]);
    } else if (event.key === "Backspace") props.onDraw(drawing.slice(0, -1));
    else if (event.key === "Escape") props.onDraw(null);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const px = ([x, y]: Point): Point => [x * WIDTH, y * height];
  const line = (points: readonly Point[]): string => points.map((one) => px(one).join()).join(" ");

  return (
    <div class="zone-canvas" style={{ aspectRatio: `${1 / ratio}` }}>
      <Picture camera={props.camera.id} name={props.camera.name} width={1280} everyMs={1000} on={hasPicture(props.camera)} onSize={(w, h) => setRatio(h / w)} />
      <svg
        ref={svg}
        viewBox={`0 0 ${WIDTH} ${height}`}
        preserveAspectRatio="none"
        class={drawing ? "drawing" : ""}
        role="group"
        tabindex={drawing ? 0 : -1}
        aria-label={drawing ? text().drawing : text().canvas(props.camera.name)}
        onPointerDown={down}
        onPointerMove={(event) => {
          if (drag.current?.id === event.pointerId) drag.current.move(place(event));
          else if (drawing && event.pointerType !== "touch") setCross(place(event));
        }}
        onPointerUp={(event) => {
          if (drag.current?.id !== event.pointerId) return;
          drag.current = null;
          const zone = selected === null ? undefined : zones[selected];
          if (selected !== null && zone) props.onChange(selected, zone, true);
        }}
        onKeyDown={key}
      >
        <defs>
          <pattern id="zone-ignored" width="14" height="14" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
            <rect width="14" height="14" fill="rgb(20 26 33 / 45%)" />
            <rect width="5" height="14" fill="rgb(200 210 220 / 45%)" />
          </pattern>
        </defs>
        {zones.map((zone, at) => (
          <g key={at} class={`zone ${zone.kind}${at === selected ? " selected" : ""}`}>
            <polygon
              points={line(zone.points)}
              tabindex={drawing ? -1 : 0}
              role="button"
              aria-label={text().zone(zone.name, props.kinds[zone.kind])}
              aria-pressed={at === selected}
              onPointerDown={(event) => {
                if (drawing) return;
                event.stopPropagation();
                props.onSelect(at);
                dragZone(event, at, zone);
              }}
              onKeyDown={(event) => {
                const move = arrows(event);
                if (event.key === "Enter" || event.key === " ") props.onSelect(at);
                else if (props.fixed) return;
                else if (move) put(at, { points: moved(zone.points, move[0], move[1]) }, true);
                else if (event.key === "Delete" || event.key === "Backspace") props.onRemove(at);
                else return;
                event.preventDefault();
                event.stopPropagation();
              }}
            />
            <Name zone={zone} at={px([Math.min(...zone.points.map((one) => one[0])), Math.min(...zone.points.map((one) => one[1]))])} />
            {zone.kind === "direction" && (
              <Direction
                zone={zone}
                middle={px(centre(zone.points))}
                fixed={props.fixed || at !== selected}
                onTurn={(direction, settled) => put(at, { direction }, settled)}
                onDrag={(event) =>
                  begin(event, (to) => {
                    const [cx, cy] = px(centre(zone.points));
                    const [x, y] = px(to);
                    put(at, { direction: (Math.round((Math.atan2(x - cx, cy - y) * 180) / Math.PI) + 360) % 360 }, false);
                  })
                }
              />
            )}
            {at === selected &&
              !props.fixed &&
              !drawing &&
              zone.points.map((point, index) => {
                const [x, y] = px(point);
                const next = zone.points[(index + 1) % zone.points.length] ?? point;
                const [mx, my] = px(between(point, next));
                return (
                  <>
                    {zone.points.length < 64 && (
                      <circle
                        class="middle"
                        cx={mx}
                        cy={my}
                        r="9"
                        role="button"
                        tabindex={0}
                        aria-label={text().between(index + 1)}
                        onPointerDown={(event) => {
                          const points = addAfter(zone, index);
                          put(at, { points }, false);
                          dragPoint(event, at, points, index + 1);
                        }}
                        onKeyDown={(event) => {
                          if (event.key !== "Enter" && event.key !== " ") return;
                          event.preventDefault();
                          put(at, { points: addAfter(zone, index) }, true);
                        }}
                      />
                    )}
                    <circle
                      class="point"
                      cx={x}
                      cy={y}
                      r="11"
                      role="button"
                      tabindex={0}
                      aria-label={text().point(index + 1, zone.points.length, percent(point[0]), percent(point[1]))}
                      onPointerDown={(event) => dragPoint(event, at, zone.points, index)}
                      onKeyDown={(event) => {
                        const move = arrows(event);
                        if (move) put(at, { points: zone.points.map((one, n) => (n === index ? [clamp(one[0] + move[0]), clamp(one[1] + move[1])] : one)) }, true);
                        else if (event.key === "Delete" || event.key === "Backspace") {
                          if (zone.points.length > 3) put(at, { points: zone.points.filter((_, n) => n !== index) }, true);
                        } else return;
                        event.preventDefault();
                        event.stopPropagation();
                      }}
                    />
                  </>
                );
              })}
          </g>
        ))}
        {drawing && (
          <g class={`zone drawn ${props.drawKind}`}>
            {drawing.length > 0 && <polyline points={line([...drawing, cross])} />}
            {drawing.map((point, index) => {
              const [x, y] = px(point);
              return <circle key={index} class={index === 0 && drawing.length > 2 ? "point first" : "point"} cx={x} cy={y} r="11" />;
            })}
            <path class="cross" d={`M${cross[0] * WIDTH - 16} ${cross[1] * height}h32M${cross[0] * WIDTH} ${cross[1] * height - 16}v32`} />
          </g>
        )}
      </svg>
    </div>
  );
}

function Name({ zone, at }: { zone: Zone; at: Point }) {
  return (
    <text x={at[0] + 8} y={Math.max(22, at[1] - 8)} class="zone-name" aria-hidden>
      {zone.name}
    </text>
  );
}

function Direction(props: {
  zone: Zone;
  middle: Point;
  fixed: boolean;
  onTurn: (degrees: number, settled: boolean) => void;
  onDrag: (event: PointerEvent) => void;
}) {
  const degrees = props.zone.direction ?? 0;
  const turn = (degrees * Math.PI) / 180;
  const [x, y] = props.middle;
  const tip: Point = [x + Math.sin(turn) * ARROW, y - Math.cos(turn) * ARROW];
  return (
    <g class="way">
      <line x1={x} y1={y} x2={tip[0]} y2={tip[1]} />
      <path
        d="M0 -14L11 10L0 4L-11 10Z"
        transform={`translate(${tip[0]} ${tip[1]}) rotate(${degrees})`}
        {...(props.fixed
          ? {}
          : {
              role: "button" as const,
              tabindex: 0,
              "aria-label": text().arrow(degrees),
              onPointerDown: props.onDrag,
              onKeyDown: (event: KeyboardEvent) => {
                const step = { ArrowLeft: -5, ArrowDown: -5, ArrowRight: 5, ArrowUp: 5 }[event.key];
                if (step === undefined) return;
                event.preventDefault();
                event.stopPropagation();
                props.onTurn((degrees + step + 360) % 360, true);
              },
            })}
      />
    </g>
  );
}
