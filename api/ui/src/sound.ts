/** The alarm: tones made here, no file. A browser lets a page sound only after somebody pressed something on it. */
import { signal } from "@preact/signals";
import type { Severity } from "./api/schema";
import { keep, kept } from "./kept";

let context: AudioContext | null = null;
const AGAIN_MS = 4000;
let last = -AGAIN_MS;

export const soundOn = signal(kept("sound") === "on");

/** What was switched on in an earlier visit sounds from the first press on this one. */
addEventListener("pointerdown", wake);
addEventListener("keydown", wake);

function wake(): void {
  if (!soundOn.peek()) return;
  context ??= new AudioContext();
  if (context.state === "suspended") void context.resume();
}

export function setSound(on: boolean): void {
  keep("sound", on ? "on" : "off");
  soundOn.value = on;
  if (!on) return;
  wake();
  play([660], 0.12);
}

const TONES: Partial<Record<Severity, readonly number[]>> = {
  medium: [587],
  high: [740, 587],
  critical: [988, 740, 988, 740],
};

/** At most one alarm in a few seconds, of what is medium or worse. */
export function alarm(severity: Severity): void {
  const tones = TONES[severity];
  const now = performance.now();
  if (!soundOn.peek() || !tones || now - last < AGAIN_MS) return;
  last = now;
  play(tones, 0.22);
}

function play(tones: readonly number[], volume: number): void {
  if (context?.state !== "running") {
    if (context) void context.resume();
    if (!context) return;
  }
  const begin = context.currentTime + 0.02;
  tones.forEach((hertz, index) => {
    if (!context) return;
    const at = begin + index * 0.2;
    const tone = new OscillatorNode(context, { type: "triangle", frequency: hertz });
    const gain = new GainNode(context, { gain: 0 });
    gain.gain.setValueAtTime(0, at);
    gain.gain.linearRampToValueAtTime(volume, at + 0.015);
    gain.gain.exponentialRampToValueAtTime(0.001, at + 0.19);
    tone.connect(gain).connect(context.destination);
    tone.start(at);
    tone.stop(at + 0.2);
  });
}
