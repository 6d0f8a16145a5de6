import { useRef, useState } from "preact/hooks";
import { ApiProblem } from "../api/problem";
import { Alone } from "../components/alone";
import { Button } from "../components/button";
import { TextField, useSubmit } from "../components/field";
import { Notice } from "../components/states";
import { messages } from "../i18n";
import { ended, logIn } from "../session";

const text = messages(
  {
    title: "Log in",
    name: "Name",
    password: "Password",
    code: "Code",
    codeHint: "Six digits of your authenticator app, or a recovery code.",
    back: "Use another account",
    expired: "Your session is over. Log in, and you are back where you were.",
    loggedOut: "You are logged out.",
  },
  {
    title: "로그인",
    name: "이름",
    password: "비밀번호",
    code: "코드",
    codeHint: "인증 앱의 여섯 자리 코드 또는 복구 코드.",
    back: "다른 계정 사용",
    expired: "세션이 끝났습니다. 로그인하면 보던 화면으로 돌아갑니다.",
    loggedOut: "로그아웃했습니다.",
  },
);

export default function Login() {
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [code, setCode] = useState("");
  const [second, setSecond] = useState(false);
  const form = useRef<HTMLFormElement>(null);
  const { busy, error, submit } = useSubmit(async () => {
    try {
      await logIn(name.trim(), password, code.trim());
    } catch (problem) {
      if (problem instanceof ApiProblem && problem.code === "second_factor_needed") {
        setSecond(true);
        requestAnimationFrame(() => form.current?.querySelector<HTMLInputElement>("[name=code]")?.focus());
        return;
      }
      throw problem;
    }
  });
  return (
    <Alone title={text().title}>
      {ended.value && !error && <Notice>{ended.value === "expired" ? text().expired : text().loggedOut}</Notice>}
      {error && <Notice kind="bad">{error}</Notice>}
      <form ref={form} onSubmit={(event) => void submit(event)}>
        {!second && (
          <>
            <TextField label={text().name} value={name} onValue={setName} name="name" autocomplete="username" autocapitalize="none" required autofocus />
            <TextField label={text().password} value={password} onValue={setPassword} name="password" type="password" autocomplete="current-password" required />
          </>
        )}
        {second && (
          <TextField label={text().code} hint={text().codeHint} value={code} onValue={setCode} name="code" autocomplete="one-time-code" inputMode="text" required />
        )}
        <Button kind="primary" type="submit" busy={busy}>
          {text().title}
        </Button>
        {second && (
          <Button
            kind="quiet"
            onClick={() => {
              setSecond(false);
              setCode("");
            }}
          >
            {text().back}
          </Button>
        )}
      </form>
    </Alone>
  );
}
