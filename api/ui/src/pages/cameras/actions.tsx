/** What can be done with a camera, here and in its list. */
import { useState } from "preact/hooks";
import { api } from "../../api/client";
import { ApiProblem } from "../../api/problem";
import type { CameraOut } from "../../api/schema";
import { Asked } from "../../components/asked";
import { Button } from "../../components/button";
import { failed, toast } from "../../components/toast";
import { common } from "../../i18n/common";
import { may } from "../../session";
import { text } from "./texts";

type Answer = { data?: CameraOut; error?: unknown; response: Response };

/** The camera as it is after a change; says so where the manager will hear of it later. */
export async function changed(call: Promise<Answer>): Promise<CameraOut> {
  const { data, error, response } = await call;
  if (!data) throw ApiProblem.from(error, response);
  if (response.status === 202) toast(text().later);
  return data;
}

export function StartStop({ camera, small, onChange }: { camera: CameraOut; small?: boolean; onChange: (camera: CameraOut) => void }) {
  const [busy, setBusy] = useState(false);
  if (!may("operator")) return null;
  const rests = !camera.enabled;
  const turn = async (): Promise<void> => {
    setBusy(true);
    try {
      const params = { path: { camera_id: camera.id } };
      const call = rests
        ? api.POST("/api/v1/cameras/{camera_id}/start", { params })
        : api.POST("/api/v1/cameras/{camera_id}/stop", { params });
      onChange(await changed(call));
      toast(rests ? text().started(camera.name) : text().stopped(camera.name));
    } catch (error) {
      failed(error);
    } finally {
      setBusy(false);
    }
  };
  const word = rests ? text().start : text().stop;
  return (
    <Button small={small ?? false} icon={rests ? "play" : "stop"} busy={busy} aria-label={`${word}: ${camera.name}`} onClick={() => void turn()}>
      {word}
    </Button>
  );
}

export function LearnAnew({ camera, onChange }: { camera: CameraOut; onChange: () => void }) {
  if (!may("operator")) return null;
  return (
    <Asked
      word={text().learnAnew}
      icon="refresh"
      title={`${text().learnAnew}: ${camera.name}`}
      why={text().learnAnewWhy}
      onDo={async () => {
        const { error, response } = await api.POST("/api/v1/cameras/{camera_id}/learn", { params: { path: { camera_id: camera.id } } });
        if (!response.ok) throw ApiProblem.from(error, response);
        toast(text().learnsAnew(camera.name));
        onChange();
      }}
    />
  );
}

export function Remove({ camera, onDone }: { camera: CameraOut; onDone: () => void }) {
  if (!may("admin")) return null;
  return (
    <Asked
      word={common().remove}
      icon="trash"
      danger
      title={`${common().remove}: ${camera.name}`}
      why={text().removeWhy(camera.name)}
      onDo={async () => {
        const { error, response } = await api.DELETE("/api/v1/cameras/{camera_id}", { params: { path: { camera_id: camera.id } } });
        if (!response.ok) throw ApiProblem.from(error, response);
        toast(text().removed(camera.name));
        onDone();
      }}
    />
  );
}
