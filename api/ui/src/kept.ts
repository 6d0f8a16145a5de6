/** What this browser remembers: small choices of how things look. Never anything secret. */

const PREFIX = "haetae.";

export function kept(name: string): string | null {
  try {
    return localStorage.getItem(PREFIX + name);
  } catch {
    return null; // storage is switched off
  }
}

export function keep(name: string, value: string): void {
  try {
    localStorage.setItem(PREFIX + name, value);
  } catch {
    // it holds until the page is closed
  }
}
