/** Texts that more than one page shows, and words for the API's closed lists: a new member does not compile without. */
import type { AnalysisStatus, CameraPhase, EventState, Role, Severity, Verdict, VlmType } from "../api/schema";
import { messages } from ".";

export const common = messages(
  {
    close: "Close",
    cancel: "Cancel",
    save: "Save",
    undo: "Undo",
    retry: "Try again",
    loading: "Loading…",
    all: "All",
    none: "None",
    yes: "Yes",
    no: "No",
    name: "Name",
    camera: "Camera",
    cameras: "Cameras",
    score: "Score",
    more: "More",
    saved: "Saved.",
    old: "What is shown is from before.",
    add: "Add",
    edit: "Edit",
    remove: "Remove",
    copy: "Copy",
    copied: "Copied.",
    never: "Never",
    unknown: "Unknown",
    state: "State",
    actions: "Actions",
    search: "Search",
    nothingFound: "Nothing matches",
    optional: "Optional",
    time: "Time",
  },
  {
    close: "닫기",
    cancel: "취소",
    save: "저장",
    undo: "실행 취소",
    retry: "다시 시도",
    loading: "불러오는 중…",
    all: "전체",
    none: "없음",
    yes: "예",
    no: "아니요",
    name: "이름",
    camera: "카메라",
    cameras: "카메라",
    score: "점수",
    more: "더 보기",
    saved: "저장했습니다.",
    old: "이전에 받은 내용을 보여 줍니다.",
    add: "추가",
    edit: "수정",
    remove: "삭제",
    copy: "복사",
    copied: "복사했습니다.",
    never: "없음",
    unknown: "알 수 없음",
    state: "상태",
    actions: "작업",
    search: "검색",
    nothingFound: "일치하는 항목이 없습니다",
    optional: "선택 사항",
    time: "시각",
  },
);

export const severities = messages(
  { info: "Info", low: "Low", medium: "Medium", high: "High", critical: "Critical" } satisfies Record<Severity, string>,
  { info: "정보", low: "낮음", medium: "보통", high: "높음", critical: "심각" },
);

export const phases = messages(
  {
    stopped: "Stopped",
    starting: "Starting",
    disconnected: "Disconnected",
    connecting: "Connecting",
    learning: "Learning",
    provisional: "Watching, provisional",
    watching: "Watching",
    degraded: "Degraded",
    backoff: "Restarting",
    stopping: "Stopping",
    failed: "Failed",
  } satisfies Record<CameraPhase, string>,
  {
    stopped: "중지됨",
    starting: "시작 중",
    disconnected: "연결 끊김",
    connecting: "연결 중",
    learning: "학습 중",
    provisional: "임시 감시 중",
    watching: "감시 중",
    degraded: "영상 이상",
    backoff: "재시작 대기",
    stopping: "중지하는 중",
    failed: "실패",
  },
);

export const eventStates = messages(
  { open: "Going on", closed: "Over", interrupted: "Cut short" } satisfies Record<EventState, string>,
  { open: "진행 중", closed: "종료", interrupted: "중단됨" },
);

export const roles = messages(
  { viewer: "Viewer", operator: "Operator", admin: "Administrator" } satisfies Record<Role, string>,
  { viewer: "열람자", operator: "관제원", admin: "관리자" },
);

export const verdicts = messages(
  { confirmed: "Confirmed", rejected: "Nothing of note", uncertain: "Not sure" } satisfies Record<Verdict, string>,
  { confirmed: "이상 확인", rejected: "특이 사항 없음", uncertain: "확실하지 않음" },
);

export const analysisStatuses = messages(
  {
    ok: "It answered",
    timeout: "It took too long",
    invalid: "Its answer could not be read",
    unreachable: "It could not be reached",
    refused: "It would not look",
    skipped: "It was not asked",
  } satisfies Record<AnalysisStatus, string>,
  {
    ok: "응답함",
    timeout: "응답 시간 초과",
    invalid: "읽을 수 없는 응답",
    unreachable: "연결할 수 없음",
    refused: "분석을 거부함",
    skipped: "묻지 않음",
  },
);

export const types = messages(
  {
    normal: "Normal",
    intrusion: "Intrusion",
    loitering: "Loitering",
    running: "Fast motion",
    fall: "Fall",
    fighting: "Fighting",
    assault_abuse: "Assault",
    weapon: "Weapon",
    robbery_theft: "Robbery or theft",
    vandalism: "Vandalism",
    abandoned_object: "Abandoned object",
    object_removed: "Object removed",
    wrong_way: "Wrong way",
    crowding: "Crowding",
    crowd_dispersal: "Crowd dispersal",
    riot: "Riot",
    vehicle_incident: "Vehicle incident",
    fire_smoke: "Fire or smoke",
    explosion: "Explosion",
    tamper: "Camera tampering",
    animal: "Animal",
    medical: "Medical emergency",
    unusual_motion: "Unusual motion",
    other: "Other",
  } satisfies Record<VlmType, string>,
  {
    normal: "정상",
    intrusion: "침입",
    loitering: "배회",
    running: "빠른 움직임",
    fall: "쓰러짐",
    fighting: "싸움",
    assault_abuse: "폭행",
    weapon: "흉기",
    robbery_theft: "강도·절도",
    vandalism: "기물 파손",
    abandoned_object: "유기물",
    object_removed: "물건 사라짐",
    wrong_way: "역주행",
    crowding: "군집",
    crowd_dispersal: "군중 흩어짐",
    riot: "소요",
    vehicle_incident: "차량 사고",
    fire_smoke: "화재·연기",
    explosion: "폭발",
    tamper: "카메라 훼손",
    animal: "동물",
    medical: "응급 상황",
    unusual_motion: "이상 움직임",
    other: "기타",
  },
);

/** The word for a type; the type itself where a newer server knows one that this page does not. */
export function typeName(type: string): string {
  const known = types() as Readonly<Record<string, string>>;
  return known[type] ?? type;
}
