import type { ComponentChildren, JSX } from "preact";
import { Icon, type IconName } from "./icons";

type ButtonProps = Omit<JSX.IntrinsicElements["button"], "icon" | "class"> & {
  kind?: "primary" | "danger" | "quiet";
  small?: boolean;
  icon?: IconName;
  /** Under way: it cannot be pressed again, and says so. */
  busy?: boolean;
  children?: ComponentChildren;
};

/** With an `icon` and no children it needs an `aria-label`, which is shown as its tooltip too. */
export function Button({ kind, small, icon, busy, children, type = "button", ...rest }: ButtonProps) {
  const classes = ["button", kind, small && "small", icon && !children && "icon"].filter(Boolean).join(" ");
  const title = rest.title ?? (children ? undefined : rest["aria-label"]);
  return (
    <button
      {...rest}
      type={type}
      class={classes}
      title={title}
      disabled={Boolean(rest.disabled) || busy}
      aria-busy={busy ? true : undefined}
    >
      {busy ? <span class="spinner" aria-hidden /> : icon && <Icon name={icon} size={small ? 16 : 18} />}
      {children}
    </button>
  );
}

/** One of a few, all of them seen at once. */
export function Segments<T extends string | number>(props: {
  label: string;
  value: T;
  options: readonly { value: T; label: string; title?: string }[];
  onChange: (value: T) => void;
}) {
  return (
    <div class="segments" role="group" aria-label={props.label}>
      {props.options.map((one) => (
        <button
          key={one.value}
          type="button"
          aria-pressed={one.value === props.value}
          title={one.title}
          onClick={() => props.onChange(one.value)}
        >
          {one.label}
        </button>
      ))}
    </div>
  );
}
