/** What the server says of an event, in the reader's language where the page knows the sentence. */
import { language } from ".";

/** Parts of reasons that detectors write; what is not among them is shown as it came. */
const KOREAN: readonly [RegExp, string][] = [
  [/^([\d.]+) x the usual speed here$/, "평소 이곳 속도의 $1배"],
  [/^([\d.]+) x the usual amount of movement here$/, "평소 이곳 움직임의 $1배"],
  [/^movement where there is usually none$/, "평소 움직임이 없는 곳의 움직임"],
  [/^goes (.+), as ([\d.]+%) do here$/, "$1으로 감: 이곳에서는 $2만 그렇게 움직임"],
  [/^([\d.]+) x the usual size here$/, "평소 이곳 크기의 $1배"],
  [/^([\d.]+) x as wide for its height as what is usually here$/, "높이에 비해 평소보다 $1배 넓음"],
  [/^([\d.]+) x as slender for its height as what is usually here$/, "높이에 비해 평소보다 $1배 가늚"],
  [/^a place where ([\d.]+) x less is seen than elsewhere$/, "다른 곳보다 $1배 드물게 보이는 자리"],
  [/^has stayed for ([\d.]+) s, usually ([\d.]+) s here$/, "$1초 머무름, 평소 이곳에서는 $2초"],
  [/^moves its limbs ([\d.]+) x as much as usual$/, "팔다리를 평소의 $1배로 움직임"],
  [/^glides: moves its limbs only ([\d.]+) x as much as usual$/, "미끄러지듯 감: 팔다리 움직임이 평소의 $1배뿐"],
  [/^looks unlike what is usually here \(1 in ([\d,]+)\)$/, "평소 이곳에 있는 것과 다른 모습($1 중 1꼴)"],
  [/^of a kind that is seldom here \(kind (\d+)\)$/, "이곳에서 드문 종류(종류 $1)"],
  [/^moves or changes as could not be foreseen: ([\d.]+) x the usual error here$/, "예측할 수 없는 움직임이나 변화: 평소 이곳 오차의 $1배"],
  [/^looks or moves unlike anything remembered hereabouts \(distance ([\d.]+)\)$/, "이 부근에서 기억한 것과 다른 모습이나 움직임(거리 $1)"],
  [/^looks or moves unlike what is usual here$/, "평소 이곳과 다른 모습이나 움직임"],
  [/^cannot be redrawn from what is usual here: ([\d.]+) x the usual error$/, "평소 이곳의 모습으로 그려지지 않음: 평소 오차의 $1배"],
  [/^looks faster than what usually moves here$/, "평소 이곳에서 움직이는 것보다 빨라 보임"],
  [/^glides rather than walks, unlike what usually moves here$/, "걷지 않고 미끄러지듯 움직임"],
  [/^looks larger than what usually is here$/, "평소 이곳에 있는 것보다 커 보임"],
  [/^looks like nothing usually seen here$/, "평소 이곳에서 보지 못한 모습"],
  [/^seems to go against the usual direction$/, "평소 방향을 거슬러 가는 듯함"],
];

const WAYS: Readonly<Record<string, string>> = {
  up: "위",
  "up right": "오른쪽 위",
  right: "오른쪽",
  "down right": "오른쪽 아래",
  down: "아래",
  "down left": "왼쪽 아래",
  left: "왼쪽",
  "up left": "왼쪽 위",
};

function korean(part: string): string {
  for (const [pattern, words] of KOREAN) {
    const found = pattern.exec(part);
    if (found) return words.replace(/\$(\d)/g, (_, place: string) => WAYS[found[Number(place)] ?? ""] ?? found[Number(place)] ?? "");
  }
  return part;
}

export function reasonText(reason: string): string {
  if (language.value === "ko") return reason.split("; ").map(korean).join("; ");
  return (reason.charAt(0).toUpperCase() + reason.slice(1)).replace(/([\d.]+) x /g, "$1 × ");
}
