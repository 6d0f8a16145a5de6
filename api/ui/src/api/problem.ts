/** What went wrong, as the API's problem documents tell it, in words for the one who reads the page. */
import type { Problem } from "./schema";
import { messages } from "../i18n";

const text = messages(
  {
    offline: "The server cannot be reached. Is it running, and is the network up?",
    timeout: "The server took too long to answer.",
    login_failed: "The name or the password is wrong.",
    login_delayed: (seconds: number) => `Too many failed attempts. Try again in ${seconds} s.`,
    second_factor_needed: "Enter the code of your authenticator app.",
    second_factor_wrong: "That code is wrong, or was used already.",
    password_wrong: "The password is wrong.",
    not_logged_in: "You are not logged in any more.",
    token_refused: "This session is over. Log in again.",
    forbidden: "Your role does not allow this.",
    not_found: "It is not there, or not yours to see.",
    conflict: "It does not go together with what is there already.",
    acknowledged_already: "Somebody has acknowledged it already.",
    not_acknowledged: "Nobody has acknowledged it.",
    too_many_requests: "Too many requests at once. It goes on in a moment.",
    registration_closed: "Nobody can register here. Ask an administrator.",
    unavailable: "A process of the server does not answer. It is tried again.",
    database_unavailable: "The database does not answer.",
    no_picture: "There is no picture of this camera now.",
    internal: "Something went wrong on the server. Its log says more under this request's id.",
    invalid: "Some of what was entered is not valid.",
    reference: (id: string) => `Request ${id}`,
  },
  {
    offline: "서버에 연결할 수 없습니다. 서버와 네트워크 상태를 확인하세요.",
    timeout: "서버가 제때 응답하지 않았습니다.",
    login_failed: "이름 또는 비밀번호가 올바르지 않습니다.",
    login_delayed: (seconds: number) => `로그인 실패가 너무 많습니다. ${seconds}초 뒤에 다시 시도하세요.`,
    second_factor_needed: "인증 앱의 코드를 입력하세요.",
    second_factor_wrong: "코드가 틀렸거나 이미 사용되었습니다.",
    password_wrong: "비밀번호가 올바르지 않습니다.",
    not_logged_in: "로그인 상태가 아닙니다.",
    token_refused: "세션이 끝났습니다. 다시 로그인하세요.",
    forbidden: "현재 역할로는 할 수 없는 작업입니다.",
    not_found: "존재하지 않거나 볼 권한이 없습니다.",
    conflict: "이미 있는 내용과 충돌합니다.",
    acknowledged_already: "다른 사람이 이미 확인했습니다.",
    not_acknowledged: "아직 아무도 확인하지 않았습니다.",
    too_many_requests: "요청이 너무 많습니다. 잠시 뒤에 계속됩니다.",
    registration_closed: "여기서는 가입할 수 없습니다. 관리자에게 문의하세요.",
    unavailable: "서버의 프로세스가 응답하지 않습니다. 다시 시도합니다.",
    database_unavailable: "데이터베이스가 응답하지 않습니다.",
    no_picture: "지금은 이 카메라의 영상이 없습니다.",
    internal: "서버에서 문제가 발생했습니다. 이 요청 번호로 로그를 확인하세요.",
    invalid: "입력한 내용 중 올바르지 않은 것이 있습니다.",
    reference: (id: string) => `요청 ${id}`,
  },
);

/** Thrown by every call of the API that was not carried out. `status` is 0 where nothing answered. */
export class ApiProblem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    readonly detail: string,
    readonly hint = "",
    readonly fields: ReadonlyMap<string, string> = new Map(),
    readonly requestId = "",
    readonly retryAfterS = 0,
  ) {
    super(detail);
    this.name = "ApiProblem";
  }

  static of(problem: Problem, response: Response): ApiProblem {
    const fields = new Map((problem.errors ?? []).map((one) => [one.field.replace(/^(body|query|path)\./, ""), one.message]));
    const after = Number(response.headers.get("retry-after")) || 0;
    return new ApiProblem(problem.status, problem.code, problem.detail, problem.hint, fields, problem.request_id, after);
  }

  /** Of an answer that was no success, whatever it holds. */
  static from(error: unknown, response: Response): ApiProblem {
    const known = typeof error === "object" && error !== null && "code" in error;
    return known ? ApiProblem.of(error as Problem, response) : new ApiProblem(response.status, "unavailable", response.statusText || "no answer");
  }
}

/** For the reader: what happened, and what to do. The server's own words stand where ours would say less. */
export function told(error: unknown): string {
  if (!(error instanceof ApiProblem)) return error instanceof Error ? error.message : String(error);
  const words = text();
  if (error.code === "login_delayed") return words.login_delayed(error.retryAfterS || 1);
  if (error.code === "internal") return `${words.internal} ${words.reference(error.requestId)}`;
  const own = error.code in words ? words[error.code as keyof typeof words] : undefined;
  const detail = error.code === "unacceptable" || error.code === "conflict" || error.code === "invalid" || typeof own !== "string";
  const said = detail ? sentence(error.detail) : own;
  return error.hint && detail ? `${said} ${sentence(error.hint)}` : said;
}

function sentence(words: string): string {
  const begun = words.charAt(0).toUpperCase() + words.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}
