import type { PageProps } from "..";
import { query } from "../../router";
import { may } from "../../session";
import "./cameras.css";
import { CameraDetail } from "./detail";
import { CameraList } from "./list";
import { NewCamera } from "./new";

export default function Cameras({ params }: PageProps) {
  const [id, tab = "overview"] = params;
  if (id === undefined) return query.value.has("add") && may("admin") ? <NewCamera /> : <CameraList />;
  return <CameraDetail key={id} id={id} tab={tab} />;
}
