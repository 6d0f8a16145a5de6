/** Why events are acknowledged: a reason by one key, Enter, done. */
import { useRef, useState } from "preact/hooks";
import { Button } from "../../components/button";
import { Dialog } from "../../components/dialog";
import { TextArea, TextField, useSubmit } from "../../components/field";
import { Notice } from "../../components/states";
import { common } from "../../i18n/common";
import { keep, kept } from "../../kept";
import { acknowledge } from "./actions";
import { reasons, text } from "./texts";

export function AckDialog({ ids, onDone, onClose }: { ids: readonly string[]; onDone: () => void; onClose: () => void }) {
  const [reason, setReason] = useState(kept("ack.reason") ?? "");
  const [note, setNote] = useState("");
  const [assignee, setAssignee] = useState("");
  const form = useRef<HTMLFormElement>(null);
  const presets = Object.values(reasons());
  const { busy, error, submit } = useSubmit(async () => {
    await acknowledge(ids, { reason: reason.trim(), note, assignee: assignee.trim() });
    keep("ack.reason", reason.trim());
    onDone();
  });
  const byNumber = (event: KeyboardEvent): void => {
    const preset = presets[Number(event.key) - 1];
    if (!preset || (event.target instanceof Element && event.target.matches("textarea, input:not([type=radio])"))) return;
    event.preventDefault();
    setReason(preset);
  };
  return (
    <Dialog
      title={text().ackTitle(ids.length)}
      onClose={onClose}
      foot={
        <>
          <Button onClick={onClose}>{common().cancel}</Button>
          <Button kind="primary" icon="check" busy={busy} onClick={() => form.current?.requestSubmit()}>
            {text().acknowledge}
          </Button>
        </>
      }
    >
      <form ref={form} class="stack" onSubmit={(event) => void submit(event)} onKeyDown={byNumber}>
        {error && <Notice kind="bad">{error}</Notice>}
        <fieldset class="ack-reasons">
          <legend class="small muted">{text().reason}</legend>
          {presets.map((preset, index) => (
            <label key={preset} class={`ack-reason${preset === reason ? " chosen" : ""}`}>
              <input
                type="radio"
                name="reason"
                value={preset}
                checked={preset === reason}
                autofocus={presets.includes(reason) ? preset === reason : index === 0}
                onChange={() => setReason(preset)}
                onKeyDown={(event) => {
                  if (event.key !== "Enter") return;
                  event.preventDefault();
                  form.current?.requestSubmit();
                }}
              />
              <kbd aria-hidden>{index + 1}</kbd>
              {preset}
            </label>
          ))}
        </fieldset>
        <TextField label={text().reasonOther} value={presets.includes(reason) ? "" : reason} onValue={setReason} maxLength={64} />
        <TextArea label={text().note} hint={text().noteHint} value={note} onValue={setNote} maxLength={4000} rows={2} />
        <TextField label={text().assignee} hint={text().assigneeHint} value={assignee} onValue={setAssignee} maxLength={200} />
      </form>
    </Dialog>
  );
}
