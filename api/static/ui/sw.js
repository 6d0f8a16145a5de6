// Keeps the page's own files, so that it opens without the network. It never keeps, or answers, anything of the API.
const NAME = "haetae-page-1";

self.addEventListener("install", () => self.skipWaiting());

self.addEventListener("activate", (event) => {
  event.waitUntil(
    (async () => {
      for (const name of await caches.keys()) if (name !== NAME) await caches.delete(name);
      await self.clients.claim();
    })(),
  );
});

self.addEventListener("push", (event) => {
  let told = {};
  try {
    told = event.data.json();
  } catch {
    // a browser that shows nothing loses the right to be told
  }
  event.waitUntil(
    self.registration.showNotification(told.title || "Haetae", {
      body: told.body || "",
      tag: told.tag || "haetae",
      renotify: told.occasion !== "update",
      requireInteraction: told.priority === 0,
      icon: "/icon-192.png",
      data: { path: pathOf(told.link) },
    }),
  );
});

/** Of this site only, whatever host a message names. */
function pathOf(link) {
  try {
    const { pathname, search, hash } = new URL(link || "/", location.origin);
    return pathname + search + hash;
  } catch {
    return "/";
  }
}

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(show(event.notification.data?.path ?? "/"));
});

/** In a page that is open already, else in a new one. */
async function show(path) {
  const [open] = await self.clients.matchAll({ type: "window" });
  if (!open) return self.clients.openWindow(path);
  await open.focus();
  return open.navigate(path);
}

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== "GET" || url.origin !== location.origin) return;
  if (url.pathname.startsWith("/api/") || url.pathname === "/metrics" || url.pathname.endsWith("z")) return;
  if (event.request.mode === "navigate") event.respondWith(page());
  else if (url.pathname.startsWith("/assets/")) event.respondWith(asset(event.request));
});

/** The newest page where there is a server; the last one that was seen where there is none. */
async function page() {
  const cache = await caches.open(NAME);
  try {
    const response = await fetch("/", { cache: "no-cache" });
    if (response.ok) {
      await cache.put("/", response.clone());
      await forget(cache, await response.clone().text());
    }
    return response;
  } catch (error) {
    const known = await cache.match("/");
    if (known) return known;
    throw error;
  }
}

/** Assets carry their hash in their name: what is known stays right. */
async function asset(request) {
  const cache = await caches.open(NAME);
  const known = await cache.match(request);
  if (known) return known;
  const response = await fetch(request);
  if (response.ok) await cache.put(request, response.clone());
  return response;
}

/** Another build has other names: what the new page does not begin with goes, and comes again when it is needed. */
async function forget(cache, html) {
  const entry = /\/assets\/index-[^"]+\.js/.exec(html)?.[0];
  if (!entry || (await cache.match(entry))) return;
  for (const request of await cache.keys()) {
    if (new URL(request.url).pathname.startsWith("/assets/")) await cache.delete(request);
  }
}
