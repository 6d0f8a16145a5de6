/**
 * Calls of the REST API, typed by its OpenAPI document.
 *
 *     const page = await ask(api.GET("/api/v1/events", { params: { query: { limit: 50 } } }));
 *
 * The access token lives in memory alone; the refresh token is an HttpOnly cookie. A call that finds the token over is
 * sent again with the next one; whoever else needs it meanwhile waits for the same refresh.
 */
import createClient from "openapi-fetch";
import type { Problem, paths, Tokens } from "./schema";
import { ApiProblem } from "./problem";

const TIMEOUT_MS = 20_000;
const EARLY_MS = 30_000;
const RETRY_MS = 10_000;
const REFRESH = "/api/v1/auth/refresh";

let token = "";
let refreshAt = 0;
let timer = 0;
let refreshing: Promise<boolean> | null = null;
let over: () => void = () => undefined;

/** What to do when the session has ended for good. */
export function whenOver(then: () => void): void {
  over = then;
}

export function takeTokens(tokens: Tokens): void {
  token = tokens.access_token;
  const left = Math.max(EARLY_MS, tokens.expires_in * 1000 - EARLY_MS);
  refreshAt = performance.now() + left;
  inTime(left);
}

export function dropTokens(): void {
  token = "";
  refreshAt = 0;
  clearTimeout(timer);
}

/** Pictures are read with a cookie that lives as long as the token does: a page that is only looked at keeps it fresh. */
function inTime(wait: number): void {
  clearTimeout(timer);
  timer = window.setTimeout(() => {
    refresh().then(
      (good) => good || over(),
      () => inTime(RETRY_MS),
    );
  }, wait);
}

export const hasToken = (): boolean => token !== "";

/** One refresh at a time, of all tabs where the browser can see to that. False: the session is over. */
export function refresh(): Promise<boolean> {
  refreshing ??= alone(refreshOnce).finally(() => (refreshing = null));
  return refreshing;
}

async function alone(work: () => Promise<boolean>): Promise<boolean> {
  const locks = (navigator as { locks?: LockManager }).locks; // not there on plain HTTP
  return locks ? await locks.request("haetae.refresh", work) : work();
}

async function refreshOnce(): Promise<boolean> {
  for (let attempt = 0; ; attempt += 1) {
    const response = await send(
      new Request(REFRESH, {
        method: "POST",
        credentials: "same-origin",
        headers: { "Content-Type": "application/json" },
        body: "{}",
      }),
    );
    if (response.ok) {
      takeTokens((await response.json()) as Tokens);
      return true;
    }
    if (response.status === 409 && attempt < 3) {
      // another tab was first: its cookie is in this browser within a moment
      await new Promise((done) => setTimeout(done, 150 * (attempt + 1)));
      continue;
    }
    if (response.status === 401 || response.status === 403) {
      dropTokens();
      return false;
    }
    throw await problemOf(response);
  }
}

async function send(request: Request): Promise<Response> {
  const limit = AbortSignal.timeout(TIMEOUT_MS);
  try {
    return await fetch(request, { signal: AbortSignal.any([request.signal, limit]) });
  } catch (error) {
    if (request.signal.aborted) throw error;
    if (limit.aborted) throw new ApiProblem(0, "timeout", "no answer");
    throw new ApiProblem(0, "offline", "not reachable");
  }
}

const open = (path: string): boolean => /\/auth\/(state|login|register|refresh)$/.test(path);

async function authorised(request: Request): Promise<Response> {
  if (open(new URL(request.url).pathname)) return send(request);
  if (!token || performance.now() >= refreshAt) await refresh();
  if (!token) {
    over();
    throw new ApiProblem(401, "not_logged_in", "log in first");
  }
  const again = request.clone();
  const used = token;
  const response = await send(signed(request));
  if (response.status !== 401) return response;
  if (token === used && !(await refresh())) {
    over();
    return response;
  }
  return send(signed(again));
}

function signed(request: Request): Request {
  request.headers.set("Authorization", `Bearer ${token}`);
  return request;
}

export const api = createClient<paths>({ baseUrl: location.origin, fetch: authorised });

async function problemOf(response: Response): Promise<ApiProblem> {
  try {
    return ApiProblem.of((await response.json()) as Problem, response);
  } catch {
    return new ApiProblem(response.status, "unavailable", response.statusText || "no answer");
  }
}

type Answer<D> = { data?: D; error?: unknown; response: Response };

/** The answer's record; throws ApiProblem. */
export async function ask<D>(call: Promise<Answer<D>>): Promise<D> {
  const { data, error, response } = await call;
  if (!response.ok) throw ApiProblem.from(error, response);
  return data as D;
}

/** A body whose left-out fields are the server's defaults; the document's types know of them only in answers. */
export const defaulted = <T>(body: Partial<T>): T => body as T;
