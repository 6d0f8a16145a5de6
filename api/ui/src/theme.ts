/** Light, dark, or as the system has it: an attribute that styles/tokens.css reads. */
import { computed, effect, signal } from "@preact/signals";
import { keep, kept } from "./kept";

export type Theme = "system" | "light" | "dark";

const dark = matchMedia("(prefers-color-scheme: dark)");
const systemDark = signal(dark.matches);
dark.addEventListener("change", (event) => (systemDark.value = event.matches));

const before = kept("theme");
export const theme = signal<Theme>(before === "light" || before === "dark" ? before : "system");
export const isDark = computed(() => (theme.value === "system" ? systemDark.value : theme.value === "dark"));

effect(() => {
  document.documentElement.dataset["theme"] = isDark.value ? "dark" : "light";
});

export function setTheme(chosen: Theme): void {
  keep("theme", chosen);
  theme.value = chosen;
}

/** The colour that a CSS variable has now, for what is drawn on a canvas. */
export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
