/** What a page reads from the API: once, again when asked, and every so often while the page is seen. */
import { useCallback, useEffect, useRef, useState } from "preact/hooks";

export type Loaded<T> = {
  /** The newest that came; stays while it is read again. */
  data: T | undefined;
  /** Why the last reading failed; null where it did not. */
  error: unknown;
  /** Nothing came yet. */
  loading: boolean;
  reload: () => Promise<void>;
  /** Shows this from now on, as an answer of the server to a change. */
  set: (data: T) => void;
};

type State<T> = { data: T | undefined; error: unknown };

/**
 * Reads with `work`, anew whenever `key` changes; an answer to an older question is dropped. With `everyMs` it is read
 * again so long after the last answer, while the page is not hidden.
 */
export function useLoad<T>(work: () => Promise<T>, key = "", everyMs = 0): Loaded<T> {
  const [state, setState] = useState<State<T>>({ data: undefined, error: null });
  const newest = useRef(0);
  const now = useRef(work);
  now.current = work;
  const reload = useCallback(async () => {
    newest.current += 1;
    const mine = newest.current;
    try {
      const data = await now.current();
      if (mine === newest.current) setState({ data, error: null });
    } catch (error) {
      if (mine === newest.current) setState((before) => ({ ...before, error }));
    }
  }, []);
  useEffect(() => {
    let timer = 0;
    let over = false;
    setState({ data: undefined, error: null });
    const turn = async (): Promise<void> => {
      if (!document.hidden) await reload();
      if (everyMs && !over) timer = window.setTimeout(() => void turn(), everyMs);
    };
    void turn();
    return () => {
      over = true;
      newest.current += 1;
      clearTimeout(timer);
    };
  }, [key, everyMs]);
  const set = useCallback((data: T) => {
    newest.current += 1;
    setState({ data, error: null });
  }, []);
  return { ...state, loading: state.data === undefined && state.error === null, reload, set };
}
