/** What cannot be undone is asked about first. */
import { useState } from "preact/hooks";
import { told } from "../api/problem";
import { Button } from "./button";
import { Confirm } from "./dialog";
import type { IconName } from "./icons";
import { Notice } from "./states";

/** A button, and the question that it asks. `onDo` may throw: then it says why, and stays. */
export function Asked(props: {
  word: string;
  /** Of the button, where its word alone would not say of what; then only the icon is shown. */
  label?: string;
  icon: IconName;
  title: string;
  why: string;
  danger?: boolean;
  quiet?: boolean;
  small?: boolean;
  onDo: () => Promise<void>;
}) {
  const [open, setOpen] = useState(false);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<unknown>(null);
  const act = async (): Promise<void> => {
    setBusy(true);
    setProblem(null);
    try {
      await props.onDo();
      setOpen(false);
    } catch (error) {
      setProblem(error);
    } finally {
      setBusy(false);
    }
  };
  return (
    <>
      <Button
        small={props.small ?? false}
        icon={props.icon}
        {...(props.danger ? { kind: "danger" as const } : props.quiet ? { kind: "quiet" as const } : {})}
        aria-label={props.label}
        onClick={() => setOpen(true)}
      >
        {props.label ? null : props.word}
      </Button>
      {open && (
        <Confirm title={props.title} action={props.word} busy={busy} onConfirm={() => void act()} onClose={() => setOpen(false)}>
          {problem !== null && <Notice kind="bad">{told(problem)}</Notice>}
          <p>{props.why}</p>
        </Confirm>
      )}
    </>
  );
}
