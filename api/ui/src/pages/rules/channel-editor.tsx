/** A channel as it is entered; what is secret is stored sealed and never shown again. */
import { useState } from "preact/hooks";
import { api, ask } from "../../api/client";
import type { Channel, ChannelChange, ChannelIn } from "../../api/schema";
import { Button } from "../../components/button";
import { Dialog } from "../../components/dialog";
import { CheckBox, SelectField, TextField, useSubmit } from "../../components/field";
import { Notice } from "../../components/states";
import { messages } from "../../i18n";
import { common } from "../../i18n/common";
import { text as page } from "./texts";

const text = messages(
  {
    add: "New channel",
    edit: (name: string) => `Edit ${name}`,
    kind: "Kind",
    name: "Name",
    secret: "Stored sealed, never shown.",
    kept: "It is set. Leave it empty to keep it.",
    take: "Take it away",
    host: "Server",
    port: "Port",
    security: "Encryption",
    securities: { starttls: "STARTTLS", tls: "TLS", none: "None: everything can be read on the way" },
    username: "User name",
    password: "Password",
    sender: "From",
    recipients: "To",
    recipientsHint: "Addresses, with commas between.",
    snapshot: "With the picture",
    url: "URL",
    urlHint: "Gets JSON by POST. Where it may be is networks.webhooks in the configuration.",
    signing: "Signing key",
    signingHint: "Of the HMAC-SHA256 in X-Haetae-Signature.",
    authorization: "Authorization header",
    tls: "TLS",
    prefix: "Topics begin with",
    discovery: "Home Assistant looks at",
    discoveryHint: "Empty announces no devices.",
    switches: "Whoever may write to the broker may start and stop cameras",
    contact: "Contact",
    contactHint: "Whom the push service may turn to: mailto:… or https://…",
    apprise: "Apprise URL",
    appriseHint: "Such as tgram://TOKEN/CHAT.",
    ca: "File of the authorities (PEM)",
    limit: "At most so many an hour",
    limitHint: "0 is no limit. The last fifth is kept for critical ones.",
    backup: "Told when this one keeps failing",
    anyOther: "Any other that works",
    advanced: "More",
  },
  {
    add: "새 채널",
    edit: (name: string) => `${name} 수정`,
    kind: "종류",
    name: "이름",
    secret: "암호화해 저장하며 표시하지 않습니다.",
    kept: "설정되어 있습니다. 그대로 두려면 비워 두세요.",
    take: "지우기",
    host: "서버",
    port: "포트",
    security: "암호화",
    securities: { starttls: "STARTTLS", tls: "TLS", none: "없음: 내용이 그대로 노출됨" },
    username: "사용자 이름",
    password: "비밀번호",
    sender: "보내는 사람",
    recipients: "받는 사람",
    recipientsHint: "주소를 쉼표로 구분하세요.",
    snapshot: "사진 포함",
    url: "URL",
    urlHint: "POST로 JSON을 받습니다. 허용 범위는 설정의 networks.webhooks입니다.",
    signing: "서명 키",
    signingHint: "X-Haetae-Signature의 HMAC-SHA256에 사용합니다.",
    authorization: "Authorization 헤더",
    tls: "TLS",
    prefix: "토픽 접두어",
    discovery: "Home Assistant 검색 접두어",
    discoveryHint: "비우면 기기를 알리지 않습니다.",
    switches: "브로커에 쓸 수 있으면 카메라를 시작·중지할 수 있음",
    contact: "연락처",
    contactHint: "푸시 서비스가 연락할 곳: mailto:… 또는 https://…",
    apprise: "Apprise URL",
    appriseHint: "예: tgram://TOKEN/CHAT.",
    ca: "인증 기관 파일(PEM)",
    limit: "시간당 최대 건수",
    limitHint: "0이면 제한 없음. 마지막 5분의 1은 심각한 것을 위해 남겨 둡니다.",
    backup: "계속 실패할 때 알릴 채널",
    anyOther: "작동하는 다른 채널",
    advanced: "더 보기",
  },
);

type Settings = ChannelIn["settings"];
type Kind = Settings["kind"];
const KINDS: readonly Kind[] = ["email", "webhook", "mqtt", "webpush", "apprise"];
export const kindName = (kind: Kind): string => page().kinds[kind];

const SECRETS: Record<Kind, readonly string[]> = { email: ["password"], webhook: ["signing_key", "authorization"], mqtt: ["password"], webpush: [], apprise: ["url"] };

function fresh(kind: Kind): Settings {
  const all = { limit_per_hour: 0, backup: "" };
  switch (kind) {
    case "email":
      return { kind, ...all, host: "", port: 587, security: "starttls", ca_file: "", username: "", sender: "", recipients: [], snapshot: true };
    case "webhook":
      return { kind, ...all, url: "", ca_file: "", snapshot: false };
    case "mqtt":
      return { kind, ...all, host: "", port: 1883, tls: false, ca_file: "", username: "", prefix: "haetae", discovery_prefix: "homeassistant", switches: false };
    case "webpush":
      return { kind, ...all, contact: "", users: [] };
    case "apprise":
      return { kind, ...all };
  }
}

export function ChannelEditor({ channel, others, onClose, onSaved }: { channel: Channel | null; others: readonly Channel[]; onClose: () => void; onSaved: () => void }) {
  const [name, setName] = useState(channel?.name ?? "");
  const [settings, setSettings] = useState<Settings>(() => channel?.settings ?? fresh("email"));
  const [secrets, setSecrets] = useState<Readonly<Record<string, string>>>({});
  const { kind } = settings;
  const set = (part: object): void => setSettings({ ...settings, ...part });
  const { busy, error, submit, field } = useSubmit(async () => {
    const given: Record<string, string> = Object.fromEntries(SECRETS[kind].flatMap((one) => (secrets[one] === undefined ? [] : [[one, secrets[one]]])));
    const sealed: ChannelIn["secrets"] = Object.keys(given).length ? { kind, ...given } : null;
    if (channel) {
      const body: ChannelChange = { name: name.trim(), enabled: channel.enabled, settings, secrets: sealed };
      await ask(api.PATCH("/api/v1/notifications/channels/{channel_id}", { params: { path: { channel_id: channel.id } }, body }));
    } else await ask(api.POST("/api/v1/notifications/channels", { body: { name: name.trim(), enabled: true, settings, secrets: sealed } }));
    onSaved();
  });
  const values = settings as Readonly<Record<string, unknown>>;
  const plain = (part: string): string => {
    const value = values[part];
    return typeof value === "string" || typeof value === "number" ? String(value) : "";
  };
  const of = (part: string): string | undefined => field(`settings.${part}`);
  const line = (label: string, part: string, extra: object = {}) => (
    <TextField label={label} value={plain(part)} onValue={(value) => set({ [part]: value })} error={of(part)} autocapitalize="none" spellcheck={false} {...extra} />
  );
  const amount = (label: string, part: string, extra: object = {}) => (
    <TextField label={label} type="number" min={0} step={1} value={plain(part)} onValue={(value) => set({ [part]: Math.round(Number(value)) || 0 })} error={of(part)} {...extra} />
  );
  const tick = (label: string, part: string) => <CheckBox label={label} checked={values[part] === true} onValue={(value) => set({ [part]: value })} />;
  const secret = (label: string, part: string, hint = "") => {
    const known = channel?.secrets_set.includes(part) ?? false;
    return (
      <TextField
        label={label}
        hint={`${hint} ${known ? text().kept : text().secret}`.trim()}
        type="password"
        autocomplete="new-password"
        value={secrets[part] ?? ""}
        error={field(`secrets.${part}`)}
        onValue={(value) => {
          const rest = Object.fromEntries(Object.entries(secrets).filter(([key]) => key !== part));
          setSecrets(value ? { ...rest, [part]: value } : rest);
        }}
      />
    );
  };
  return (
    <Dialog
      title={channel ? text().edit(channel.name) : text().add}
      onClose={onClose}
      foot={
        <>
          <Button onClick={onClose}>{common().cancel}</Button>
          <Button kind="primary" busy={busy} disabled={!name.trim()} onClick={() => void submit()}>
            {common().save}
          </Button>
        </>
      }
    >
      <form class="stack" onSubmit={(event) => void submit(event)}>
        {error && <Notice kind="bad">{error}</Notice>}
        <TextField label={text().name} value={name} onValue={setName} error={field("name")} maxLength={200} required autofocus />
        {!channel && <SelectField label={text().kind} value={kind} onValue={(value) => setSettings(fresh(value as Kind))} options={KINDS.map((one) => ({ value: one, label: kindName(one) }))} />}
        {settings.kind === "email" && (
          <>
            {line(text().host, "host", { placeholder: "smtp.example" })}
            <div class="grid-2">
              {amount(text().port, "port")}
              <SelectField label={text().security} value={settings.security} onValue={(security) => set({ security })} options={(["starttls", "tls", "none"] as const).map((one) => ({ value: one, label: text().securities[one] }))} />
              {line(text().username, "username", { autocomplete: "off" })}
              {secret(text().password, "password")}
            </div>
            {line(text().sender, "sender", { placeholder: "haetae@example.com" })}
            <TextField label={text().recipients} hint={text().recipientsHint} value={settings.recipients.join(", ")} error={of("recipients")} autocapitalize="none" onValue={(value) => set({ recipients: value.split(/[,;\s]+/).filter(Boolean) })} />
            {tick(text().snapshot, "snapshot")}
          </>
        )}
        {settings.kind === "webhook" && (
          <>
            {line(text().url, "url", { hint: text().urlHint, placeholder: "https://example.com/hook" })}
            {secret(text().signing, "signing_key", text().signingHint)}
            {secret(text().authorization, "authorization")}
            {tick(text().snapshot, "snapshot")}
          </>
        )}
        {settings.kind === "mqtt" && (
          <>
            {line(text().host, "host", { placeholder: "broker.example" })}
            <div class="grid-2">
              {amount(text().port, "port")}
              {line(text().prefix, "prefix")}
              {line(text().username, "username", { autocomplete: "off" })}
              {secret(text().password, "password")}
            </div>
            {line(text().discovery, "discovery_prefix", { hint: text().discoveryHint })}
            <div>
              {tick(text().tls, "tls")}
              {tick(text().switches, "switches")}
            </div>
          </>
        )}
        {settings.kind === "webpush" && line(text().contact, "contact", { hint: text().contactHint, placeholder: "mailto:guard@example.com" })}
        {settings.kind === "apprise" && secret(text().apprise, "url", text().appriseHint)}
        <details>
          <summary>{text().advanced}</summary>
          <div class="inner stack">
            {amount(text().limit, "limit_per_hour", { hint: text().limitHint })}
            <SelectField label={text().backup} value={settings.backup} onValue={(backup) => set({ backup })} options={[{ value: "", label: text().anyOther }, ...others.map((one) => ({ value: one.id, label: one.name }))]} />
            {"ca_file" in settings && line(text().ca, "ca_file")}
          </div>
        </details>
      </form>
    </Dialog>
  );
}
