/** Where we are: path and query as signals, over the browser's history. */
import { computed, signal } from "@preact/signals";

const here = (): string => location.pathname + location.search;

export const place = signal(here());
const url = computed(() => new URL(place.value, location.origin));
export const path = computed(() => url.value.pathname);
export const query = computed(() => url.value.searchParams);

addEventListener("popstate", () => (place.value = here()));

/** Goes to another page; `replace` leaves no trace of this one in the history. */
export function go(to: string, { replace = false } = {}): void {
  if (to === here()) return;
  if (replace) history.replaceState(null, "", to);
  else history.pushState(null, "", to);
  place.value = here();
}

/** The query with these changes; null and "" take a name away, a list repeats it. */
export function withQuery(changes: Record<string, string | readonly string[] | null>): string {
  const next = new URLSearchParams(query.peek());
  for (const [name, value] of Object.entries(changes)) {
    next.delete(name);
    for (const one of typeof value === "string" ? [value] : (value ?? [])) if (one) next.append(name, one);
  }
  const text = next.toString();
  return path.peek() + (text ? `?${text}` : "");
}

/** Links within the page are followed without loading it anew. */
document.addEventListener("click", (event) => {
  if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = event.target instanceof Element ? event.target.closest("a") : null;
  if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
  if (link.pathname.startsWith("/api/") || link.hash) return;
  event.preventDefault();
  go(link.pathname + link.search);
});
