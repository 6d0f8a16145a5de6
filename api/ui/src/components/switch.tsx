/** On or off, at once; says which in words to whoever does not see it. */
export function Switch(props: { label: string; checked: boolean; disabled?: boolean; onValue: (checked: boolean) => void }) {
  return (
    <button
      type="button"
      role="switch"
      class="switch"
      aria-checked={props.checked}
      aria-label={props.label}
      title={props.label}
      disabled={props.disabled}
      onClick={() => props.onValue(!props.checked)}
    >
      <i />
    </button>
  );
}
