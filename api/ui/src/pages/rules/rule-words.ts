/** A rule in one sentence. */
import type { CameraGroup, Channel, Rule } from "../../api/schema";
import { scheduleWords } from "../../components/schedule";
import { duration, messages, number } from "../../i18n";
import { severities, typeName } from "../../i18n/common";
import { cameraName } from "../../store/cameras";

const text = messages(
  {
    all: "all cameras",
    events: (where: string) => `Events of ${where}`,
    health: (where: string, time: string) => `When one of ${where} does not watch for ${time}`,
    types: (types: string) => `of the type ${types}`,
    severity: (name: string) => `${name} or worse`,
    score: (score: string) => `score ${score} or more`,
    lasts: (time: string) => `going on for ${time}`,
    zones: (zones: string) => `in ${zones}`,
    repeat: (count: number, time: string) => `the ${count}th within ${time}`,
    when: (when: string) => `only ${when}`,
    quiet: (when: string) => `quiet ${when}`,
    tell: (channels: string) => `tell ${channels}`,
    digest: (time: string) => `together after ${time}`,
    limit: (count: number) => `at most ${count} an hour`,
    escalate: (time: string, channels: string) => `and ${channels} where nobody takes note within ${time}`,
    gone: "a channel that is gone",
  },
  {
    all: "모든 카메라",
    events: (where: string) => `${where}의 이벤트`,
    health: (where: string, time: string) => `${where} 중 하나가 ${time} 동안 감시하지 않을 때`,
    types: (types: string) => `유형: ${types}`,
    severity: (name: string) => `${name} 이상`,
    score: (score: string) => `점수 ${score} 이상`,
    lasts: (time: string) => `${time} 이상 지속`,
    zones: (zones: string) => `구역: ${zones}`,
    repeat: (count: number, time: string) => `${time} 안에 ${count}번째`,
    when: (when: string) => `${when}에만`,
    quiet: (when: string) => `${when} 제외`,
    tell: (channels: string) => `${channels}(으)로 알림`,
    digest: (time: string) => `${time}마다 모아서`,
    limit: (count: number) => `시간당 최대 ${count}건`,
    escalate: (time: string, channels: string) => `${time} 안에 확인이 없으면 ${channels}에도`,
    gone: "삭제된 채널",
  },
);

export function ruleWords(rule: Rule, channels: readonly Channel[], groups: readonly CameraGroup[]): string {
  const { conditions, actions } = rule;
  const words = text();
  const names = [...conditions.cameras.map(cameraName), ...conditions.groups.map((id) => groups.find((one) => one.id === id)?.name ?? id)];
  const where = names.length ? names.join(", ") : words.all;
  const channelNames = (ids: readonly string[]): string => ids.map((id) => channels.find((one) => one.id === id)?.name ?? words.gone).join(", ");
  const parts = [conditions.about === "events" ? words.events(where) : words.health(where, duration(conditions.for_s))];
  if (conditions.about === "events") {
    if (conditions.types.length) parts.push(words.types(conditions.types.map(typeName).join(", ")));
    if (conditions.min_severity !== "info") parts.push(words.severity(severities()[conditions.min_severity]));
    if (conditions.min_score) parts.push(words.score(number(conditions.min_score, 1)));
    if (conditions.min_duration_s) parts.push(words.lasts(duration(conditions.min_duration_s)));
    if (conditions.zones.length) parts.push(words.zones(conditions.zones.join(", ")));
    if (conditions.repeat) parts.push(words.repeat(conditions.repeat.count, duration(conditions.repeat.within_s)));
  }
  if (conditions.schedule.length) parts.push(words.when(scheduleWords(conditions.schedule)));
  if (conditions.quiet.length) parts.push(words.quiet(scheduleWords(conditions.quiet)));
  parts.push(words.tell(channelNames(actions.channels)));
  if (actions.digest_minutes) parts.push(words.digest(duration(actions.digest_minutes * 60)));
  if (actions.limit_per_hour) parts.push(words.limit(actions.limit_per_hour));
  if (actions.escalation) parts.push(words.escalate(duration(actions.escalation.after_minutes * 60), channelNames(actions.escalation.channels)));
  return parts.join(" · ");
}
