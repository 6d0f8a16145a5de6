import { useState } from "preact/hooks";
import { api, ask } from "../../api/client";
import { Button } from "../../components/button";
import { TextField, useSubmit } from "../../components/field";
import { Notice } from "../../components/states";
import { toast } from "../../components/toast";
import { messages } from "../../i18n";
import { me } from "../../session";

const text = messages(
  {
    title: "Password",
    lead: "All your other sessions end with the old one.",
    current: "Password of now",
    fresh: "New password",
    hint: "12 characters or more, of any kind.",
    again: "New password again",
    unlike: "The two are not the same.",
    change: "Change it",
    done: "The password is changed.",
  },
  {
    title: "비밀번호",
    lead: "바꾸면 다른 모든 세션이 끝납니다.",
    current: "현재 비밀번호",
    fresh: "새 비밀번호",
    hint: "12자 이상, 종류는 자유입니다.",
    again: "새 비밀번호 확인",
    unlike: "두 비밀번호가 다릅니다.",
    change: "변경",
    done: "비밀번호를 바꿨습니다.",
  },
);

export function Password() {
  const [current, setCurrent] = useState("");
  const [fresh, setFresh] = useState("");
  const [again, setAgain] = useState("");
  const [tried, setTried] = useState(false);
  const unlike = fresh !== again ? text().unlike : undefined;
  const { busy, error, submit, field } = useSubmit(async () => {
    setTried(true);
    if (unlike) return;
    await ask(api.POST("/api/v1/auth/password", { body: { current, new: fresh } }));
    toast(text().done);
    setCurrent("");
    setFresh("");
    setAgain("");
    setTried(false);
  });
  return (
    <form class="card stack narrow" onSubmit={(event) => void submit(event)}>
      <h2>{text().title}</h2>
      <p class="muted">{text().lead}</p>
      {error && <Notice kind="bad">{error}</Notice>}
      <input type="text" name="username" autocomplete="username" value={me.value?.name ?? ""} readOnly hidden />
      <TextField label={text().current} type="password" autocomplete="current-password" value={current} onValue={setCurrent} required />
      <TextField label={text().fresh} hint={text().hint} type="password" autocomplete="new-password" minLength={12} value={fresh} onValue={setFresh} error={field("new")} required />
      <TextField label={text().again} type="password" autocomplete="new-password" value={again} onValue={setAgain} error={tried ? unlike : undefined} required />
      <div class="row">
        <Button type="submit" kind="primary" busy={busy}>
          {text().change}
        </Button>
      </div>
    </form>
  );
}
