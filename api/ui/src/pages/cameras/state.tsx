/** What a camera does now: state, reason, and how far it is with learning. */
import type { CameraOut, CameraPhase } from "../../api/schema";
import { PhaseBadge } from "../../components/marks";
import { Progress } from "../../components/progress";
import { duration, percent } from "../../i18n";
import { serverWords } from "../../i18n/server-words";
import { text } from "./texts";

export type Kind = "all" | "trouble" | "learning" | "watching" | "stopped";

const TROUBLE: readonly CameraPhase[] = ["disconnected", "degraded", "backoff", "failed"];
const WITH_PICTURE: readonly CameraPhase[] = ["learning", "provisional", "watching", "degraded"];

export function kindOf(camera: CameraOut): Exclude<Kind, "all"> {
  const phase = camera.observed?.phase;
  if (!phase || TROUBLE.includes(phase)) return "trouble";
  if (phase === "stopped" || phase === "stopping") return camera.enabled ? "trouble" : "stopped";
  return phase === "watching" || phase === "provisional" ? "watching" : "learning";
}

export const hasPicture = (camera: CameraOut): boolean =>
  typeof camera.observed?.age_s === "number" && WITH_PICTURE.includes(camera.observed.phase);

export function State({ camera }: { camera: CameraOut }) {
  const { observed } = camera;
  if (!observed) return <span class="small">{text().managerAway}</span>;
  const { learning } = observed;
  return (
    <div class="stack tight">
      <div class="row wrap">
        <PhaseBadge phase={observed.phase} />
        {observed.night && <span class="badge">{text().night}</span>}
        {observed.reason && <span class="small">{serverWords(observed.reason)}</span>}
      </div>
      {learning && (
        <div class="stack tight camera-learning">
          <div class="row between small">
            <span>{text().learning(percent(learning.percent / 100))}</span>
            {learning.left_s !== null && <span class="muted">{text().left(duration(learning.left_s))}</span>}
          </div>
          <Progress share={learning.percent / 100} label={text().learning(percent(learning.percent / 100))} />
        </div>
      )}
    </div>
  );
}
