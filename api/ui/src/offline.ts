/** The service worker: the page opens without the network too, and then says that it is without. Needs TLS or localhost. */

export const register = (): Promise<ServiceWorkerRegistration> => navigator.serviceWorker.register("/sw.js", { updateViaCache: "none" });

export function watchForUpdates(): void {
  if (!window.isSecureContext || !("serviceWorker" in navigator) || import.meta.env.DEV) return;
  addEventListener("load", () => {
    register().catch(() => {
      // the page works without it
    });
  });
}
