/**
 * One WebSocket that comes back by itself.
 *
 * A ticket is asked for over HTTP and sent as the first message; after a loss it waits 0.5 s, doubling to 5 s, half of
 * it by chance, and tries at once when the browser says that it is online again, or when another one came back. `state` tells the truth: "live" from the
 * server's "ready" on, and only while words keep coming.
 */
import { signal, type Signal } from "@preact/signals";
import { api, ask } from "../api/client";
import type { Hello, ServerMessage } from "./protocol";

export type LinkState = "live" | "reconnecting" | "offline";

/** Without a word for so long (the server says something every 10 s) the connection is dead, whatever TCP says. */
const SILENCE_MS = 21_000;
const FIRST_MS = 500;
const LONGEST_MS = 5_000;
/** Failing for so long is being offline. */
const OFFLINE_MS = 12_000;

export type SocketOptions = {
  path: string;
  /** The sequence after which it goes on; null begins with now. */
  after?: () => number | null;
  onMessage: (message: ServerMessage) => void;
  onBinary?: (data: ArrayBuffer) => void;
};

const started = new Set<LiveSocket>();

export class LiveSocket {
  readonly state: Signal<LinkState> = signal<LinkState>("reconnecting");
  /** Since when it is not live; null while it is, and before it ever was. */
  readonly lostAt: Signal<Date | null> = signal<Date | null>(null);
  private socket: WebSocket | null = null;
  private wait = FIRST_MS;
  private timer = 0;
  private silence = 0;
  private failingSince = performance.now();
  private stopped = true;

  constructor(private readonly options: SocketOptions) {}

  start(): void {
    if (!this.stopped) return;
    this.stopped = false;
    started.add(this);
    this.failingSince = performance.now();
    addEventListener("online", this.soon);
    addEventListener("offline", this.lose);
    document.addEventListener("visibilitychange", this.soon);
    void this.connect();
  }

  stop(): void {
    this.stopped = true;
    started.delete(this);
    removeEventListener("online", this.soon);
    removeEventListener("offline", this.lose);
    document.removeEventListener("visibilitychange", this.soon);
    clearTimeout(this.timer);
    clearTimeout(this.silence);
    this.drop();
    this.lostAt.value = null;
    this.state.value = "reconnecting";
  }

  send(message: object): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  private readonly soon = (): void => {
    if (this.stopped || this.state.peek() === "live" || document.hidden || this.socket) return;
    this.wait = FIRST_MS;
    clearTimeout(this.timer);
    void this.connect();
  };

  private readonly lose = (): void => {
    this.drop();
    this.lost();
  };

  private drop(): void {
    const socket = this.socket;
    this.socket = null;
    if (!socket) return;
    socket.onmessage = socket.onclose = socket.onopen = null;
    socket.close();
  }

  private async connect(): Promise<void> {
    let ticket = "";
    try {
      ticket = (await ask(api.POST("/api/v1/auth/ticket"))).ticket;
    } catch {
      this.lost();
      return;
    }
    if (this.stopped || this.socket) return;
    const socket = new WebSocket(this.options.path);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.listen();
    const hello: Hello = { type: "hello", ticket, after: this.options.after?.() ?? null };
    socket.onopen = () => socket.send(JSON.stringify(hello));
    socket.onmessage = (event: MessageEvent<string | ArrayBuffer>) => {
      if (typeof event.data === "string") this.take(JSON.parse(event.data) as ServerMessage);
      else this.options.onBinary?.(event.data);
      this.listen();
    };
    socket.onclose = () => {
      this.socket = null;
      this.lost();
    };
  }

  private take(message: ServerMessage): void {
    if (message.type === "ready") this.ready();
    this.options.onMessage(message);
  }

  private ready(): void {
    this.wait = FIRST_MS;
    this.state.value = "live";
    this.lostAt.value = null;
    for (const other of started) other.soon();
  }

  private listen(): void {
    clearTimeout(this.silence);
    this.silence = window.setTimeout(this.lose, SILENCE_MS);
  }

  private lost(): void {
    clearTimeout(this.silence);
    clearTimeout(this.timer);
    if (this.stopped) return;
    if (this.state.peek() === "live") {
      this.failingSince = performance.now();
      this.lostAt.value = new Date();
    }
    const failing = performance.now() - this.failingSince;
    this.lostAt.value ??= failing > 3000 ? new Date(Date.now() - failing) : null;
    this.state.value = !navigator.onLine || failing > OFFLINE_MS ? "offline" : "reconnecting";
    this.timer = window.setTimeout(() => void this.connect(), this.wait * (0.5 + Math.random() / 2));
    this.wait = Math.min(LONGEST_MS, this.wait * 2);
  }
}
