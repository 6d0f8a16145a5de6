/** One camera's live picture, as large as there is room, with the heat map over it where that is wanted. */
import { useEffect, useRef, useState } from "preact/hooks";
import { messages } from "../i18n";
import { show, type Painter } from "../live/frames";
import { keep, kept } from "../kept";
import { Button } from "./button";
import { HeatMap } from "./heat";
import { Icon } from "./icons";

const text = messages(
  { of: (name: string) => `Live picture of ${name}`, none: "No picture", heat: "Heat map" },
  { of: (name: string) => `${name} 실시간 영상`, none: "영상 없음", heat: "열지도" },
);

export function Live({ camera, name, on }: { camera: string; name: string; on: boolean }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [heat, setHeat] = useState(kept("live-heat") === "yes");
  const [drawn, setDrawn] = useState(false);
  useEffect(() => {
    if (!on) {
      setDrawn(false);
      return undefined;
    }
    const overlay = new HeatMap();
    const painter: Painter = {
      camera,
      size: "full",
      heat,
      problem: (problem) => problem && setDrawn(false),
      paint: ({ head, map }, picture) => {
        const place = canvas.current;
        const context = place?.getContext("2d", { alpha: false });
        if (!place || !context) return;
        if (place.width !== picture.width || place.height !== picture.height) {
          place.width = picture.width;
          place.height = picture.height;
        }
        context.drawImage(picture, 0, 0);
        if (map && heat) {
          overlay.fill(map, head.columns, head.rows);
          context.drawImage(overlay.canvas, 0, 0, place.width, place.height);
        }
        setDrawn(true);
      },
    };
    return show(painter);
  }, [camera, heat, on]);
  return (
    <div class="picture live" data-live={drawn}>
      <canvas ref={canvas} width={16} height={9} role="img" aria-label={text().of(name)} />
      {!drawn && (
        <span class="none">
          <Icon name="off" size={18} />
          <span>{text().none}</span>
        </span>
      )}
      {drawn && (
        <Button
          small
          icon="heat"
          aria-pressed={heat}
          onClick={() => {
            keep("live-heat", heat ? "no" : "yes");
            setHeat(!heat);
          }}
        >
          {text().heat}
        </Button>
      )}
    </div>
  );
}
