/** The newest picture of a camera, looked at again and again while it is on the screen. */
import { useEffect, useRef, useState } from "preact/hooks";
import { messages } from "../i18n";
import { Icon } from "./icons";

const text = messages(
  { of: (name: string) => `Picture of ${name}`, none: "No picture" },
  { of: (name: string) => `${name} 영상`, none: "영상 없음" },
);

export function Picture(props: {
  camera: string;
  name: string;
  width: number;
  everyMs: number;
  /** Whether there is one to be asked for. */
  on: boolean;
  /** Said once the picture's own proportions are known. */
  onSize?: (width: number, height: number) => void;
}) {
  const [turn, setTurn] = useState(0);
  const [seen, setSeen] = useState(false);
  const [state, setState] = useState<"" | "shown" | "none">("");
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!box.current) return undefined;
    const observer = new IntersectionObserver((entries) => setSeen(entries.some((one) => one.isIntersecting)));
    observer.observe(box.current);
    return () => observer.disconnect();
  }, []);
  const wait = useRef(0);
  useEffect(() => () => clearTimeout(wait.current), []);
  useEffect(() => {
    if (seen && state !== "") setTurn((one) => one + 1);
  }, [seen]);
  const again = (): void => {
    clearTimeout(wait.current);
    wait.current = window.setTimeout(() => {
      if (document.hidden) again();
      else setTurn((one) => one + 1);
    }, props.everyMs);
  };
  return (
    <div class="picture" ref={box}>
      {seen && props.on && (
        <img
          src={`/api/v1/cameras/${props.camera}/frame?width=${props.width}&t=${turn}`}
          alt={text().of(props.name)}
          class={state === "shown" ? "" : "waiting"}
          onLoad={(event) => {
            setState("shown");
            props.onSize?.(event.currentTarget.naturalWidth, event.currentTarget.naturalHeight);
            again();
          }}
          onError={() => {
            setState("none");
            again();
          }}
        />
      )}
      {(state === "none" || !props.on) && (
        <span class="none">
          <Icon name="off" size={18} />
          <span>{text().none}</span>
        </span>
      )}
    </div>
  );
}
