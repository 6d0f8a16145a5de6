/** An authenticator app as the second factor: scanned, confirmed, with codes for the day it is lost. */
import { useState } from "preact/hooks";
import { encode } from "uqr";
import { api, ask } from "../../api/client";
import type { SecondFactorSetUp } from "../../api/schema";
import { Button } from "../../components/button";
import { Copy } from "../../components/copy";
import { Dialog } from "../../components/dialog";
import { TextField, useSubmit } from "../../components/field";
import { Notice } from "../../components/states";
import { failed, toast } from "../../components/toast";
import { messages } from "../../i18n";
import { common } from "../../i18n/common";
import { saveFile } from "../../save-file";
import { me } from "../../session";

const text = messages(
  {
    title: "Second factor",
    on: "An authenticator app is asked for at each login.",
    off: "A password alone opens this account. An authenticator app makes it much safer.",
    add: "Add an authenticator app",
    remove: "Remove the second factor",
    scan: "Scan this with the app, or enter the key by hand.",
    qr: "QR code for the authenticator app",
    key: "Key",
    code: "Code of the app",
    anyCode: "Code of the app, or a recovery code",
    password: "Password",
    confirm: "Confirm",
    codes: "Recovery codes, shown this once",
    codesHint: "Each is good once, in the place of a code. Keep them where you find them without your telephone.",
    save: "Save as a file",
    added: "The second factor is in force.",
    removed: "The second factor is removed.",
  },
  {
    title: "2단계 인증",
    on: "로그인할 때마다 인증 앱의 코드를 묻습니다.",
    off: "비밀번호만으로 로그인됩니다. 인증 앱을 쓰면 훨씬 안전합니다.",
    add: "인증 앱 추가",
    remove: "2단계 인증 해제",
    scan: "인증 앱으로 스캔하거나 키를 직접 입력하세요.",
    qr: "인증 앱용 QR 코드",
    key: "키",
    code: "앱의 코드",
    anyCode: "앱의 코드 또는 복구 코드",
    password: "비밀번호",
    confirm: "확인",
    codes: "복구 코드. 지금 한 번만 표시됩니다",
    codesHint: "코드 대신 한 번씩 쓸 수 있습니다. 휴대전화 없이도 찾을 수 있는 곳에 보관하세요.",
    save: "파일로 저장",
    added: "2단계 인증을 사용합니다.",
    removed: "2단계 인증을 해제했습니다.",
  },
);

export function SecondFactor() {
  const [open, setOpen] = useState<SecondFactorSetUp | "remove" | null>(null);
  const [codes, setCodes] = useState<readonly string[]>([]);
  const user = me.value;
  if (!user) return null;
  const put = (second_factor: boolean): void => {
    me.value = { ...user, second_factor };
  };
  return (
    <section class="card stack narrow">
      <h2>{text().title}</h2>
      <p class="muted">{user.second_factor ? text().on : text().off}</p>
      <div class="row">
        {user.second_factor ? (
          <Button kind="danger" onClick={() => setOpen("remove")}>
            {text().remove}
          </Button>
        ) : (
          <Button kind="primary" icon="lock" onClick={() => void ask(api.POST("/api/v1/auth/second-factor")).then(setOpen, failed)}>
            {text().add}
          </Button>
        )}
      </div>
      {open === "remove" && (
        <Ask
          title={text().remove}
          label={text().anyCode}
          danger
          onClose={() => setOpen(null)}
          onDo={async (code, password) => {
            await ask(api.POST("/api/v1/auth/second-factor/remove", { body: { code, password } }));
            setOpen(null);
            put(false);
            toast(text().removed);
          }}
        />
      )}
      {open && open !== "remove" && (
        <Ask
          title={text().add}
          label={text().code}
          setUp={open}
          onClose={() => setOpen(null)}
          onDo={async (code, password) => {
            const found = await ask(api.POST("/api/v1/auth/second-factor/confirm", { body: { code, password } }));
            setOpen(null);
            setCodes(found.codes);
            put(true);
            toast(text().added);
          }}
        />
      )}
      {codes.length > 0 && (
        <Dialog
          title={text().codes}
          onClose={() => setCodes([])}
          foot={
            <>
              <Button icon="download" onClick={() => saveFile("haetae-recovery-codes.txt", "text/plain", `${codes.join("\n")}\n`)}>
                {text().save}
              </Button>
              <Button kind="primary" onClick={() => setCodes([])}>
                {common().close}
              </Button>
            </>
          }
        >
          <p class="muted">{text().codesHint}</p>
          <ul class="codes mono">
            {codes.map((one) => (
              <li key={one}>{one}</li>
            ))}
          </ul>
        </Dialog>
      )}
    </section>
  );
}

function Ask(props: {
  title: string;
  label: string;
  danger?: boolean;
  setUp?: SecondFactorSetUp;
  onDo: (code: string, password: string) => Promise<void>;
  onClose: () => void;
}) {
  const [code, setCode] = useState("");
  const [password, setPassword] = useState("");
  const { busy, error, submit } = useSubmit(() => props.onDo(code.trim(), password));
  return (
    <Dialog title={props.title} onClose={props.onClose}>
      <form class="stack" onSubmit={(event) => void submit(event)}>
        {error && <Notice kind="bad">{error}</Notice>}
        {props.setUp && (
          <>
            <p>{text().scan}</p>
            <Qr text={props.setUp.uri} />
            <Copy label={text().key} value={props.setUp.secret} />
          </>
        )}
        <TextField label={props.label} value={code} onValue={setCode} autocomplete="one-time-code" inputMode={props.setUp ? "numeric" : "text"} required autofocus />
        <TextField label={text().password} type="password" value={password} onValue={setPassword} autocomplete="current-password" required />
        <div class="row">
          <Button type="submit" kind={props.danger ? "danger" : "primary"} busy={busy}>
            {text().confirm}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

function Qr({ text: content }: { text: string }) {
  const { data, size } = encode(content, { border: 3 });
  const path = data.flatMap((row, y) => row.flatMap((dark, x) => (dark ? [`M${x} ${y}h1v1h-1z`] : []))).join("");
  return (
    <svg class="qr" viewBox={`0 0 ${size} ${size}`} role="img" aria-label={text().qr} shape-rendering="crispEdges">
      <rect width={size} height={size} fill="#ffffff" />
      <path d={path} fill="#000000" />
    </svg>
  );
}
