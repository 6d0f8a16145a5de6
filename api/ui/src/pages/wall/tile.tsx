/** One camera on the wall: picture, state, score line. What changes with each frame is drawn; the rest is rendered. */
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { api, ask } from "../../api/client";
import type { CameraOut, Severity } from "../../api/schema";
import { Button } from "../../components/button";
import { HeatMap } from "../../components/heat";
import { Icon, SeverityIcon } from "../../components/icons";
import { failed } from "../../components/toast";
import { duration, number, percent } from "../../i18n";
import { phases, severities, typeName } from "../../i18n/common";
import { framesState, type Painter, settle, show } from "../../live/frames";
import type { Channel, Frame, FrameHead } from "../../live/protocol";
import { may } from "../../session";
import { readCameras } from "../../store/cameras";
import { lineOf } from "./score-line";
import { faults, text } from "./texts";

/** Older than this a picture is not live. */
const STALE_S = 2;
const LOOK_MS = 500;

export type OpenEvent = { id: string; severity: Severity; type: string };

type Props = {
  camera: CameraOut;
  large?: boolean;
  heat: boolean;
  event: OpenEvent | undefined;
  onOpen: () => void;
};

export function Tile({ camera, large, heat, event, onOpen }: Props) {
  const picture = useRef<HTMLCanvasElement>(null);
  const chart = useRef<HTMLCanvasElement>(null);
  const root = useRef<HTMLElement>(null);
  const head = useSignal<FrameHead | null>(null);
  const problem = useSignal<Channel["problem"]>("");
  const age = useSignal<number | null>(null);
  const score = useSignal<number | null>(null);
  const showHeat = useRef(heat);
  showHeat.current = heat;

  const asks = useRef<Painter | null>(null);

  useEffect(() => {
    const line = lineOf(camera.id);
    const overlay = new HeatMap();
    let received = 0;
    let sent = 0;
    let visible = false;
    let stop: (() => void) | null = null;
    const paint = ({ head: now, map }: Frame, bitmap: ImageBitmap): void => {
      const canvas = picture.current;
      const context = canvas?.getContext("2d", { alpha: false });
      if (!canvas || !context) return;
      if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
        canvas.width = bitmap.width;
        canvas.height = bitmap.height;
      }
      context.drawImage(bitmap, 0, 0);
      if (map && showHeat.current) {
        overlay.fill(map, now.columns, now.rows);
        context.imageSmoothingEnabled = true;
        context.drawImage(overlay.canvas, 0, 0, canvas.width, canvas.height);
      }
      received = performance.now();
      sent = now.ageS;
      line.add(now.capturedAt, now.score);
      if (chart.current) line.draw(chart.current, now.capturedAt, now.openScore);
      const before = head.peek();
      if (!before || ROUND.some((of) => of(before) !== of(now))) head.value = now;
      score.value = now.score === null ? null : Math.round(now.score * 10) / 10;
      if (age.peek() !== 0) age.value = 0;
    };
    const painter: Painter = {
      camera: camera.id,
      size: large ? "full" : "tile",
      heat: showHeat.current,
      paint,
      problem: (one: Channel["problem"]) => (problem.value = one),
    };
    asks.current = painter;
    // only what is on the screen is asked for
    const seen = new IntersectionObserver((entries) => {
      const now = entries.at(-1)?.isIntersecting ?? false;
      if (now === visible) return;
      visible = now;
      stop?.();
      stop = now ? show(painter) : null;
    });
    if (root.current) seen.observe(root.current);
    const sized = new ResizeObserver(() => {
      const canvas = chart.current;
      if (!canvas) return;
      canvas.width = Math.round(canvas.clientWidth * devicePixelRatio);
      canvas.height = Math.round(canvas.clientHeight * devicePixelRatio);
    });
    if (chart.current) sized.observe(chart.current);
    const timer = setInterval(() => {
      if (!received) return;
      const seconds = sent + (performance.now() - received) / 1000;
      age.value = seconds > STALE_S ? Math.floor(seconds) : 0;
    }, LOOK_MS);
    return () => {
      clearInterval(timer);
      seen.disconnect();
      sized.disconnect();
      stop?.();
    };
  }, [camera.id, large]);

  useEffect(() => {
    if (asks.current?.heat === heat || !asks.current) return;
    asks.current.heat = heat;
    settle();
  }, [heat]);

  const state = stateOf(camera, head.value, age.value, problem.value);
  const shown = head.value !== null;
  const live = shown && age.value === 0;
  const eventOn = live && (event !== undefined || head.value?.eventOpen === true);
  const severity = eventOn ? (event?.severity ?? "medium") : undefined;
  const spoken = [
    state.label,
    eventOn ? text().eventOn : "",
    live ? (score.value === null ? text().noScore : text().score(number(score.value, 1))) : "",
  ];
  return (
    <article
      ref={root}
      class={`tile${severity ? ` alarm ${severity}` : ""}${live ? "" : " dim"}${large ? " large" : ""}`}
      data-camera={camera.id}
      data-live={live}
    >
      <canvas ref={picture} class="picture" width={16} height={9} aria-hidden />
      {!large && (
        <button class="open" type="button" aria-label={text().tile(camera.name, spoken.filter(Boolean).join(", "))} onClick={onOpen} />
      )}
      <div class="tile-top">
        <span class="tile-name cut">{camera.name}</span>
        {eventOn && severity && (
          <a class={`tile-chip event ${severity}`} href={event ? `/events/${event.id}` : `/events?camera_id=${camera.id}`}>
            <SeverityIcon severity={severity} />
            {event ? typeName(event.type) : text().eventOn}
            <span class="sr-only">{severities()[severity]}</span>
          </a>
        )}
        <span class={`tile-chip ${state.tone}`}>{state.label}</span>
      </div>
      {state.learned !== null && (
        <progress class="tile-learning" value={state.learned} max={1} aria-label={text().learning(percent(state.learned))} />
      )}
      {state.message && (
        <div class="tile-message">
          <Icon name={state.icon} size={22} />
          <span>{state.message}</span>
          {state.detail && <small>{state.detail}</small>}
          {state.canStart && may("operator") && <StartButton camera={camera} />}
        </div>
      )}
      <div class="tile-bottom">
        <canvas ref={chart} class="tile-line" role="img" aria-label={text().scoreLine} />
        <span class="tile-score num">{live && score.value !== null ? number(score.value, 1) : "–"}</span>
      </div>
    </article>
  );
}

/** What of a head is rendered: a change of these, and no other, renders the tile anew. */
const ROUND: readonly ((head: FrameHead) => unknown)[] = [
  (head) => head.phase,
  (head) => head.learning,
  (head) => Math.floor(head.learned * 100),
  (head) => head.eventOpen,
  (head) => head.fault,
  (head) => head.openScore,
];

function StartButton({ camera }: { camera: CameraOut }) {
  const busy = useSignal(false);
  const start = async (): Promise<void> => {
    busy.value = true;
    try {
      await ask(api.POST("/api/v1/cameras/{camera_id}/start", { params: { path: { camera_id: camera.id } } }));
      await readCameras();
    } catch (error) {
      failed(error);
    }
    busy.value = false;
  };
  return (
    <Button small icon="play" busy={busy.value} onClick={() => void start()}>
      {text().start}
    </Button>
  );
}

type TileState = {
  label: string;
  tone: "" | "good" | "warn" | "bad";
  /** Over the picture, where it is not live. */
  message: string;
  detail: string;
  icon: "alert" | "off" | "eye";
  learned: number | null;
  canStart: boolean;
};

/** What is true of a camera, from what was desired, what is observed, and the age of its last picture. */
function stateOf(camera: CameraOut, head: FrameHead | null, age: number | null, problem: Channel["problem"]): TileState {
  const { observed } = camera;
  const phase = observed?.phase ?? head?.phase ?? null;
  const state: TileState = {
    label: phase ? phases()[phase] : "?",
    tone: "",
    message: "",
    detail: "",
    icon: "alert",
    learned: null,
    canStart: false,
  };
  const link = framesState.value === "live";
  if (!observed) Object.assign(state, { tone: "warn", detail: text().managerAway });
  if (phase === "watching" || phase === "provisional") state.tone = "good";
  if (phase === "disconnected" || phase === "failed" || phase === "backoff") {
    Object.assign(state, { tone: "bad", message: phases()[phase], detail: observed?.reason ?? "" });
  }
  if (phase === "degraded") {
    const fault = observed?.fault;
    Object.assign(state, { tone: "warn", label: fault ? faults()[fault] : phases().degraded, detail: observed?.reason ?? "" });
  }
  const learned = observed?.learning ? observed.learning.percent / 100 : null;
  if (phase === "learning" || learned !== null || head?.learning) {
    // a frame's own word is newer than the feed's
    state.learned = head?.learning ? head.learned : learned;
    if (state.learned !== null) state.label = text().learning(percent(Math.floor(state.learned * 100) / 100));
  }
  if (!camera.enabled && !(age === 0 && link)) {
    return { ...state, tone: "", label: phases().stopped, message: text().stopped, icon: "off", learned: null, canStart: true, detail: "" };
  }
  if (age === null) {
    if (!state.message) state.message = link || framesState.value === "reconnecting" ? text().waiting : text().notLive;
    if (problem === "no_picture" && observed?.reason) state.detail = observed.reason;
    if (state.message === text().waiting) state.icon = "eye";
  } else if (age > 0) {
    const old = text().stale(duration(age));
    if (!link) Object.assign(state, { tone: "bad", message: text().notLive, detail: old });
    else Object.assign(state, { tone: state.tone === "bad" ? "bad" : "warn", message: old, detail: state.message || (observed?.reason ?? "") });
  } else if (phase !== "failed") {
    // a picture comes: what is said of the connection is over, or about to be
    state.message = "";
  }
  return state;
}
