/** What is shown: set-up or login where one of them is due, else the page of the path inside the frame. */
import { useEffect, useState } from "preact/hooks";
import type { ComponentType } from "preact";
import { ApiProblem } from "./api/problem";
import { Failed, Empty, Loading } from "./components/states";
import { Toasts } from "./components/toast";
import { nav } from "./i18n/nav";
import { Help } from "./keyboard";
import { Frame } from "./layout";
import { stopLive, startLive } from "./live/events";
import { PAGES, type Page, type PageProps } from "./pages";
import { go, path } from "./router";
import { begin, may, phase } from "./session";
import { language } from "./i18n";

const RETRY_MS = 3000;

export function App() {
  return (
    <>
      <Content />
      <Toasts />
      <Help />
    </>
  );
}

function Content() {
  const [problem, setProblem] = useState<unknown>(null);
  const [attempt, setAttempt] = useState(0);
  useEffect(() => {
    let timer = 0;
    begin().then(
      () => setProblem(null),
      (error: unknown) => {
        setProblem(error);
        if (error instanceof ApiProblem && (error.status === 0 || error.status >= 500))
          timer = window.setTimeout(() => setAttempt((one) => one + 1), RETRY_MS);
      },
    );
    return () => clearTimeout(timer);
  }, [attempt]);
  const now = phase.value;
  useEffect(() => {
    // the address that was printed for the first set-up, its token in it, is no page of those who are in
    if (now === "logged-in" && path.value === "/setup") go("/", { replace: true });
  }, [now, path.value]);
  useEffect(() => {
    if (now !== "logged-in") return undefined;
    startLive();
    return stopLive;
  }, [now]);
  if (now === "unknown") {
    return (
      <main class="alone">
        {problem ? <Failed error={problem} onRetry={() => setAttempt((one) => one + 1)} /> : <Loading />}
      </main>
    );
  }
  if (now === "set-up") return <Lazy load={() => import("./pages/set-up")} name="set-up" params={[]} />;
  if (now === "logged-out") return <Lazy load={() => import("./pages/login")} name="login" params={[]} />;
  return <Inside />;
}

function Inside() {
  const [first = "", ...params] = path.value.split("/").filter(Boolean);
  const page = PAGES.find((one) => one.path === first);
  const title = page?.title() ?? nav().notFound;
  useEffect(() => {
    document.title = `${title} · Haetae`;
  }, [title, language.value]);
  return <Frame page={page}>{page ? <Allowed page={page} params={params} /> : <Empty title={nav().notFound} />}</Frame>;
}

function Allowed({ page, params }: { page: Page; params: string[] }) {
  if (!may(page.role)) return <Empty icon="lock" title={nav().notAllowed} />;
  return <Lazy load={page.load} name={page.path} params={params} />;
}

type Loaded = ComponentType<PageProps>;
const loaded = new Map<string, Loaded>();

/** A page that is fetched when it is first shown. After an update of the server its files have other names: load anew. */
function Lazy({ load, name, params }: { load: () => Promise<{ default: Loaded }>; name: string; params: readonly string[] }) {
  const [, ready] = useState(0);
  const [problem, setProblem] = useState<string | null>(null);
  const Shown = loaded.get(name);
  useEffect(() => {
    if (loaded.has(name)) return;
    setProblem(null);
    load().then(
      (module) => {
        loaded.set(name, module.default);
        ready((one) => one + 1);
      },
      () => setProblem(name),
    );
  }, [name]);
  if (Shown) return <Shown params={params} />;
  return problem === name ? (
    <Failed error={new Error(nav().pageFailed)} onRetry={() => location.reload()} />
  ) : (
    <Loading />
  );
}
