/** The first account: made by whoever has the token that `haetae up` shows. */
import { useState } from "preact/hooks";
import { api, ask } from "../api/client";
import { Alone } from "../components/alone";
import { Button } from "../components/button";
import { TextField, useSubmit } from "../components/field";
import { Notice } from "../components/states";
import { language, messages } from "../i18n";
import { logIn } from "../session";

const text = messages(
  {
    title: "Set up Haetae",
    lead: "Make the first account. It may change everything, and make other accounts later.",
    token: "Set-up token",
    tokenHint: "The terminal where Haetae was started shows it; it begins with setup_.",
    name: "Your name",
    password: "Password",
    passwordHint: "12 characters or more, of any kind. Several words are easy to remember.",
    again: "Password again",
    unlike: "The two are not the same.",
    short: (missing: number) => `${missing} more to go.`,
    make: "Make the account",
  },
  {
    title: "해태 시작하기",
    lead: "첫 계정을 만드세요. 모든 것을 바꿀 수 있고, 나중에 다른 계정을 만들 수 있습니다.",
    token: "설정 토큰",
    tokenHint: "해태를 시작한 터미널에 표시됩니다. setup_으로 시작합니다.",
    name: "이름",
    password: "비밀번호",
    passwordHint: "12자 이상, 종류는 자유입니다. 여러 단어를 쓰면 외우기 쉽습니다.",
    again: "비밀번호 확인",
    unlike: "두 비밀번호가 다릅니다.",
    short: (missing: number) => `${missing}자 더 필요합니다.`,
    make: "계정 만들기",
  },
);

const LEAST = 12;

export default function SetUp() {
  const [token, setToken] = useState(new URLSearchParams(location.hash.slice(1)).get("token") ?? "");
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [again, setAgain] = useState("");
  const [tried, setTried] = useState(false);
  const short = password.length < LEAST ? text().short(LEAST - password.length) : undefined;
  const unlike = again !== password ? text().unlike : undefined;
  const { busy, error, submit, field } = useSubmit(async () => {
    setTried(true);
    if (short || unlike) return;
    const body = { name: name.trim(), password, token: token.trim(), language: language.value };
    await ask(api.POST("/api/v1/auth/register", { body }));
    history.replaceState(null, "", location.pathname); // the token is used up
    await logIn(body.name, password, "");
  });
  return (
    <Alone title={text().title}>
      <p class="muted">{text().lead}</p>
      {error && <Notice kind="bad">{error}</Notice>}
      <form onSubmit={(event) => void submit(event)}>
        <TextField label={text().token} hint={text().tokenHint} error={field("token")} value={token} onValue={setToken} name="token" autocomplete="off" spellcheck={false} required autofocus={!token} />
        <TextField label={text().name} error={field("name")} value={name} onValue={setName} name="name" autocomplete="username" autocapitalize="none" minLength={2} required />
        <TextField label={text().password} hint={text().passwordHint} error={(tried ? short : undefined) ?? field("password")} value={password} onValue={setPassword} name="password" type="password" autocomplete="new-password" required />
        <TextField label={text().again} error={tried ? unlike : undefined} value={again} onValue={setAgain} name="again" type="password" autocomplete="new-password" required />
        <Button kind="primary" type="submit" busy={busy}>
          {text().make}
        </Button>
      </form>
    </Alone>
  );
}
