/** Picture, clip and key frames of an event. */
import { useEffect, useRef, useState } from "preact/hooks";
import type { EventDetailOut } from "../../api/schema";
import { HeatMap } from "../../components/heat";
import { Empty } from "../../components/states";
import { Tabs } from "../../components/tabs";
import { percent } from "../../i18n";
import { keep, kept } from "../../kept";
import { mediaUrl } from "./actions";
import { text } from "./texts";

type View = "picture" | "clip" | "frames";

export function Media({ detail, clipRef }: { detail: EventDetailOut; clipRef: { current: HTMLVideoElement | null } }) {
  const [view, setView] = useState<View>("picture");
  const kinds = new Set(detail.media.map((one) => one.kind));
  const frames = [...kinds].filter((one) => one.startsWith("key")).sort();
  if (kinds.has("turned")) frames.push("turned");
  return (
    <Tabs<View>
      label={text().picture}
      value={view}
      onChange={setView}
      tabs={[
        { value: "picture", label: text().picture },
        { value: "clip", label: text().clip },
        ...(frames.length ? [{ value: "frames" as const, label: `${text().frames} (${frames.length})` }] : []),
      ]}
    >
      {view === "picture" && <Picture id={detail.event.id} kinds={kinds} event={detail.event} />}
      {view === "clip" && <Clip id={detail.event.id} there={kinds.has("clip")} open={detail.event.state === "open"} clipRef={clipRef} />}
      {view === "frames" && (
        <ul class="key-frames">
          {frames.map((kind) => (
            <li key={kind}>
              <a href={mediaUrl(detail.event.id, kind)} target="_blank" rel="noopener">
                <img src={mediaUrl(detail.event.id, kind)} alt={kind === "turned" ? text().turned : `${text().frames} ${kind.slice(3)}`} loading="lazy" decoding="async" />
              </a>
            </li>
          ))}
        </ul>
      )}
    </Tabs>
  );
}

function Picture({ id, kinds, event }: { id: string; kinds: ReadonlySet<string>; event: EventDetailOut["event"] }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [opacity, setOpacity] = useState(Number(kept("events.heat") ?? 0.7));
  const layered = kinds.has("clean") && kinds.has("heatmap");
  useEffect(() => {
    if (!layered) return undefined;
    const abort = new AbortController();
    void drawHeat(mediaUrl(id, "heatmap"), canvas, abort.signal);
    return () => abort.abort();
  }, [id, layered]);
  if (!layered && !kinds.has("snapshot")) return <Empty title={text().noPicture} />;
  return (
    <div class="stack tight">
      <div class="event-picture">
        <img
          src={mediaUrl(id, layered ? "clean" : "snapshot")}
          width={event.frame_width}
          height={event.frame_height}
          alt={text().picture}
        />
        {layered && <canvas ref={canvas} class="event-heat" aria-hidden style={{ opacity }} />}
      </div>
      {layered && (
        <label class="row heat-slider">
          <span class="small muted">{text().heat}</span>
          <input
            type="range"
            min={0}
            max={1}
            step={0.05}
            value={opacity}
            aria-label={text().heatOpacity}
            aria-valuetext={percent(opacity)}
            onInput={(change) => {
              const value = Number(change.currentTarget.value);
              setOpacity(value);
              keep("events.heat", String(value));
            }}
          />
          <span class="small num muted heat-percent">{percent(opacity)}</span>
        </label>
      )}
    </div>
  );
}

/** The stored grid of grey cells, in the colours of the wall; it is scaled by the style sheet. */
async function drawHeat(url: string, target: { current: HTMLCanvasElement | null }, signal: AbortSignal): Promise<void> {
  try {
    const response = await fetch(url, { signal });
    if (!response.ok) return;
    const bitmap = await createImageBitmap(await response.blob());
    const { width, height } = bitmap;
    const grey = new OffscreenCanvas(width, height).getContext("2d");
    const canvas = target.current;
    if (!grey || !canvas || signal.aborted) return;
    grey.drawImage(bitmap, 0, 0);
    bitmap.close();
    const heat = new HeatMap();
    heat.fill(grey.getImageData(0, 0, width, height).data, width, height, 4);
    canvas.width = width * 8;
    canvas.height = height * 8;
    const context = canvas.getContext("2d");
    if (!context) return;
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    context.drawImage(heat.canvas, 0, 0, canvas.width, canvas.height);
  } catch {
    // the picture stands without it
  }
}

function Clip({ id, there, open, clipRef }: { id: string; there: boolean; open: boolean; clipRef: { current: HTMLVideoElement | null } }) {
  if (!there) return <Empty title={text().noClip}>{open ? text().clipLater : undefined}</Empty>;
  return (
    <div class="event-picture">
      {/* a surveillance clip has no speech to caption */}
      <video ref={clipRef} src={mediaUrl(id, "clip")} controls autoplay muted loop playsInline preload="metadata" aria-label={text().clip} />
    </div>
  );
}
