import type { ComponentChildren } from "preact";
import { told } from "../api/problem";
import { common } from "../i18n/common";
import type { Loaded } from "../load";
import { Button } from "./button";
import { Failed, Loading, Notice } from "./states";

/** What was read, or that it is being read, or why not; what is old says so. */
export function Show<T>({ of, children }: { of: Loaded<T>; children: (data: T) => ComponentChildren }) {
  if (of.data === undefined) {
    return of.error === null ? <Loading /> : <Failed error={of.error} onRetry={() => void of.reload()} />;
  }
  return (
    <>
      {of.error !== null && (
        <Notice kind="warn">
          <span class="row wrap">
            {told(of.error)} {common().old}
            <Button small icon="refresh" onClick={() => void of.reload()}>
              {common().retry}
            </Button>
          </span>
        </Notice>
      )}
      {children(of.data)}
    </>
  );
}
