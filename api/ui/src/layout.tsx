/** The frame around every page: navigation by role, the state of the connection, alarm sound, help. */
import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { Button } from "./components/button";
import { Icon } from "./components/icons";
import { shortTime } from "./i18n";
import { nav } from "./i18n/nav";
import { helpShown } from "./keyboard";
import { linkSince, linkState, unseen } from "./live/events";
import { PAGES, type Page } from "./pages";
import { may, me } from "./session";
import { setSound, soundOn } from "./sound";

/** A page that fills the screen: without navigation. */
export const full = signal(false);

export function Frame({ page, children }: { page: Page | undefined; children: ComponentChildren }) {
  const main = useRef<HTMLElement>(null);
  const shown = useRef(page?.path);
  useEffect(() => {
    if (shown.current === page?.path) return;
    shown.current = page?.path;
    full.value = false;
    scrollTo(0, 0);
    main.current?.focus(); // so that a screen reader, and Tab, begin with the page
  }, [page?.path]);
  return (
    <div class={`shell${full.value ? " full" : ""}`}>
      <a class="button skip" href="#main" onClick={(event) => (event.preventDefault(), main.current?.focus())}>
        {nav().skip}
      </a>
      <main class="main" id="main" ref={main} tabIndex={-1}>
        <LinkBanner />
        {children}
      </main>
      <Rail current={page?.path} />
    </div>
  );
}

function Rail({ current }: { current: string | undefined }) {
  return (
    <header class="rail">
      <a class="brand" href="/">
        <img src="/icon.svg" alt="" width="28" height="28" />
        <span>Haetae</span>
      </a>
      <nav aria-label={nav().pages}>
        <ul>
          {PAGES.filter((one) => !one.hidden && may(one.role)).map((one) => (
            <li key={one.path}>
              <a href={`/${one.path}`} aria-current={one.path === current ? "page" : undefined} title={one.title()}>
                <Icon name={one.icon} />
                <span class="label">{one.title()}</span>
                {one.path === "events" && current !== "events" && unseen.value > 0 && (
                  <span class="count" aria-label={nav().unseen(unseen.value)}>
                    {unseen.value > 99 ? "99+" : unseen.value}
                  </span>
                )}
              </a>
            </li>
          ))}
        </ul>
      </nav>
      <div class="foot">
        <LinkState />
        <Button
          kind="quiet"
          icon={soundOn.value ? "bell" : "muted"}
          aria-pressed={soundOn.value}
          title={soundOn.value ? nav().soundOn : nav().soundOff}
          onClick={() => setSound(!soundOn.value)}
        >
          <span class="label">{soundOn.value ? nav().soundOn : nav().soundOff}</span>
        </Button>
        <Button kind="quiet" icon="help" title={`${nav().help} (?)`} onClick={() => (helpShown.value = true)}>
          <span class="label">{nav().help}</span>
        </Button>
        <a class="button quiet" href="/account" title={nav().account} aria-current={current === "account" ? "page" : undefined}>
          <Icon name="person" size={18} />
          <span class="label cut">{me.value?.name ?? nav().account}</span>
        </a>
      </div>
    </header>
  );
}

function LinkState() {
  const state = linkState.value;
  return (
    <div class={`link-state ${state}`} role="status" title={nav()[state]}>
      <i />
      <span class="label">{nav()[state]}</span>
    </div>
  );
}

function LinkBanner() {
  const state = linkState.value;
  if (state === "live") return null;
  const since = linkSince.value;
  if (since === null) return null; // it never was live yet: the first connection is under way
  return (
    <div class={`banner ${state}`} role="alert">
      <Icon name="alert" size={18} />
      <span>{state === "offline" ? nav().offlineLong(shortTime(since)) : nav().reconnectingLong}</span>
    </div>
  );
}
