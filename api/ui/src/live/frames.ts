/**
 * Live pictures over /ws/frames. A canvas asks for a camera; all that is asked for shares one socket.
 *
 * The server sends a frame only against credit, and credit is given back when a frame was drawn: a slow machine gets
 * fewer pictures, never older ones. While the page is hidden nothing is asked for.
 */
import type { CameraView, Channel, Frame, FrameSize } from "./protocol";
import { readFrame } from "./protocol";
import { LiveSocket } from "./socket";

export type Painter = {
  readonly camera: string;
  size: FrameSize;
  heat: boolean;
  /** Draws; `picture` is closed afterwards. */
  paint: (frame: Frame, picture: ImageBitmap) => void;
  /** Why there is no picture; "" where there is. */
  problem: (problem: Channel["problem"]) => void;
};

const CREDIT_PER_VIEW = 2;
const SETTLE_MS = 30;
const PAY_MS = 40;

/** `counts`: the credit of this frame is given back with it; several painters may share a frame. */
type Task = { frame: Frame; counts: boolean };
type Slot = { busy: boolean; next: Task | null };

const painters = new Map<Painter, Slot>();
const byChannel = new Map<number, string>();
let credit = 0;
let owed = 0;
let paying = 0;
let timer = 0;
let asked = "";

/** Frames that were drawn since the page was loaded; for whoever measures the page (bench.wall). */
const painted = { frames: 0 };
Object.assign(window, { haetaePainted: painted });

const socket = new LiveSocket({
  path: "/api/v1/ws/frames",
  onMessage: (message) => {
    if (message.type === "ready") {
      asked = "";
      credit = owed = 0;
      byChannel.clear();
      watch();
    } else if (message.type === "watching") {
      byChannel.clear();
      for (const one of message.channels) {
        if (one.channel) byChannel.set(one.channel, `${one.camera_id} ${one.size}`);
        for (const painter of painters.keys())
          if (painter.camera === one.camera_id && painter.size === one.size) painter.problem(one.problem);
      }
    }
  },
  onBinary: (data) => {
    const frame = readFrame(data);
    const key = frame && byChannel.get(frame.head.channel);
    let taken = false;
    if (frame && key)
      for (const [painter, slot] of painters) {
        if (`${painter.camera} ${painter.size}` !== key) continue;
        const task: Task = { frame, counts: !taken };
        taken = true;
        if (slot.busy) {
          if (slot.next?.counts) giveBack();
          slot.next = task; // the newest wins
        } else void draw(painter, slot, task);
      }
    if (!taken) giveBack();
  },
});

async function draw(painter: Painter, slot: Slot, { frame, counts }: Task): Promise<void> {
  slot.busy = true;
  try {
    const picture = await createImageBitmap(frame.jpeg);
    if (painters.has(painter)) painter.paint(frame, picture);
    picture.close();
    painted.frames += 1;
  } catch {
    // a picture that cannot be read is one that was not there
  }
  if (counts) giveBack();
  slot.busy = false;
  const next = slot.next;
  slot.next = null;
  if (next) void draw(painter, slot, next);
}

/** Several at once: a server counts messages, and a wall draws a hundred frames a second. */
function giveBack(): void {
  owed += 1;
  paying ||= window.setTimeout(() => {
    if (owed) socket.send({ type: "credit", frames: owed });
    owed = paying = 0;
  }, PAY_MS);
}

function watch(): void {
  const views = new Map<string, CameraView>();
  if (!document.hidden)
    for (const painter of painters.keys()) {
      const key = `${painter.camera} ${painter.size}`;
      const heat = painter.heat || (views.get(key)?.heat ?? false);
      views.set(key, { camera_id: painter.camera, size: painter.size, heat });
    }
  const cameras = [...views.values()];
  const text = JSON.stringify(cameras);
  if (socket.state.peek() !== "live" || text === asked) return;
  asked = text;
  socket.send({ type: "watch", cameras });
  const wanted = cameras.length * CREDIT_PER_VIEW;
  if (wanted > credit) {
    socket.send({ type: "credit", frames: wanted - credit });
    credit = wanted;
  }
}

/** After what is asked for has changed; several changes at once are one message. */
export function settle(): void {
  clearTimeout(timer);
  timer = window.setTimeout(() => {
    if (painters.size) socket.start();
    else socket.stop();
    watch();
  }, SETTLE_MS);
}

document.addEventListener("visibilitychange", settle);

/** From now on it is painted; returns how to stop. */
export function show(painter: Painter): () => void {
  painters.set(painter, { busy: false, next: null });
  settle();
  return () => {
    painters.delete(painter);
    settle();
  };
}

export const framesState = socket.state;
