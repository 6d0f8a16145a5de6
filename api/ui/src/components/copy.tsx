import { useEffect, useState } from "preact/hooks";
import { common } from "../i18n/common";
import { Button } from "./button";

/** A secret or a link that is shown once: selected at a click, copied at another. */
export function Copy({ label, value }: { label: string; value: string }) {
  const [done, setDone] = useState(false);
  useEffect(() => {
    if (!done) return undefined;
    const timer = setTimeout(() => setDone(false), 3000);
    return () => clearTimeout(timer);
  }, [done]);
  // on plain HTTP there is no clipboard for pages: what is selected can be copied by hand
  const clipboard = (navigator as { clipboard?: Clipboard }).clipboard;
  return (
    <div class="row">
      <input class="input mono" readOnly value={value} aria-label={label} onFocus={(event) => event.currentTarget.select()} />
      {clipboard && (
        <Button icon={done ? "check" : "copy"} onClick={() => void clipboard.writeText(value).then(() => setDone(true))}>
          {done ? common().copied : common().copy}
        </Button>
      )}
    </div>
  );
}
