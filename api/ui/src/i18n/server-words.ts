/**
 * What processes of the server say of cameras and events, in the reader's language. They say it in English; what is not
 * known here stays as it came.
 */
import { language } from ".";

type Known = readonly [RegExp, string];

/** $1 and so on are what the words are about. */
const KOREAN: readonly Known[] = [
  [/^(.+) refuses the user name or the password$/i, "$1: 사용자 이름 또는 비밀번호가 올바르지 않습니다"],
  [/^enter them anew$/i, "다시 입력하세요"],
  [/^(.+) has no stream at that path$/i, "$1: 그 경로에는 스트림이 없습니다"],
  [/^look (?:it|the path) up in the camera's manual$/i, "카메라 설명서에서 경로를 확인하세요"],
  [/^(.+) does not exist$/i, "$1이(가) 없습니다"],
  [/^check the spelling and the folder$/i, "철자와 폴더를 확인하세요"],
  [/^(.+) gave no picture within ([\d.]+) s$/i, "$1: $2초 안에 영상이 오지 않았습니다"],
  [/^nothing came within ([\d.]+) s$/i, "$1초 안에 아무것도 오지 않았습니다"],
  [/^check its power and its network$/i, "전원과 네트워크를 확인하세요"],
  [/^(.+) ended the stream$/i, "$1: 카메라가 스트림을 끝냈습니다"],
];

export function serverWords(words: string): string {
  if (language.value !== "ko") return words.charAt(0).toUpperCase() + words.slice(1);
  const plain = words.trim().replace(/\.$/, "");
  for (const [pattern, korean] of KOREAN) if (pattern.test(plain)) return plain.replace(pattern, korean);
  return words;
}
