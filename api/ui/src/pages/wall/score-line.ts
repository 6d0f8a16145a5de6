/** The last minute of a camera's scores, drawn into a canvas: a line, where an event begins, and what is over that. */

const WINDOW_S = 60;
const KEPT = 600;
const LEAST_TOP = 4;

export class ScoreLine {
  private readonly at = new Float64Array(KEPT);
  private readonly scores = new Float32Array(KEPT);
  private count = 0;

  add(at: number, score: number | null): void {
    const place = this.count % KEPT;
    this.at[place] = at;
    this.scores[place] = score ?? NaN;
    this.count += 1;
  }

  draw(canvas: HTMLCanvasElement, now: number, open: number | null): void {
    const context = canvas.getContext("2d");
    if (!context) return;
    const { width, height } = canvas;
    context.clearRect(0, 0, width, height);
    if (!width || !height) return;
    const top = Math.max(LEAST_TOP, (open ?? 0) * 1.8);
    const y = (score: number): number => height - 1.5 - (Math.min(score, top) / top) * (height - 3);
    if (open !== null) {
      context.strokeStyle = "rgb(255 255 255 / 45%)";
      context.lineWidth = 1;
      context.setLineDash([3, 4]);
      context.beginPath();
      context.moveTo(0, y(open));
      context.lineTo(width, y(open));
      context.stroke();
      context.setLineDash([]);
    }
    context.lineWidth = Math.max(1.25, height / 22);
    context.lineJoin = "round";
    const first = Math.max(0, this.count - KEPT);
    let drawing = false;
    let over = false;
    const begin = (isOver: boolean): void => {
      context.beginPath();
      context.strokeStyle = isOver ? "#ffb454" : "rgb(134 226 204 / 95%)";
    };
    for (let index = first; index < this.count; index += 1) {
      const place = index % KEPT;
      const age = now - (this.at[place] ?? 0);
      const score = this.scores[place] ?? NaN;
      if (age > WINDOW_S || Number.isNaN(score)) {
        if (drawing) context.stroke();
        drawing = false;
        continue;
      }
      const isOver = open !== null && score >= open;
      const x = width * (1 - age / WINDOW_S);
      if (drawing && isOver !== over) {
        context.lineTo(x, y(score));
        context.stroke();
        drawing = false;
      }
      if (!drawing) {
        begin(isOver);
        context.moveTo(x, y(score));
      } else context.lineTo(x, y(score));
      drawing = true;
      over = isOver;
    }
    if (drawing) context.stroke();
  }
}

const lines = new Map<string, ScoreLine>();

/** A camera's line; it goes on where the camera is shown in another size, or after another page. */
export function lineOf(camera: string): ScoreLine {
  let line = lines.get(camera);
  if (!line) lines.set(camera, (line = new ScoreLine()));
  return line;
}
