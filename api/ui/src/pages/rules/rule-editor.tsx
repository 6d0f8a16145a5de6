/** A rule as it is written: what must be true, whom it tells, and what it would have done last week. */
import { useState } from "preact/hooks";
import { api, ask } from "../../api/client";
import type { Actions, CameraPhase, Channel, DryRun, EventConditions, HealthConditions, Rule, RuleDraft, Severity } from "../../api/schema";
import { Button, Segments } from "../../components/button";
import { Dialog } from "../../components/dialog";
import { CheckBox, SelectField, TextArea, TextField, useSubmit } from "../../components/field";
import { Ticks } from "../../components/ticks";
import { Schedule } from "../../components/schedule";
import { Notice } from "../../components/states";
import { messages, number } from "../../i18n";
import { common, phases, severities, types } from "../../i18n/common";
import { cameras, groups } from "../../store/cameras";

const text = messages(
  {
    add: "New rule",
    edit: (name: string) => `Edit ${name}`,
    name: "Name",
    about: "About",
    abouts: { events: "Events", health: "Cameras that do not watch" },
    conditions: "When",
    cameras: "Cameras",
    groups: "Groups",
    camerasHint: "None ticked: all cameras.",
    severity: "Severity at least",
    types: "Types",
    typesHint: "None ticked: all types.",
    score: "Score at least",
    lasts: "Going on for at least (s)",
    zones: "In zones",
    zonesHint: "Names of zones, with commas between.",
    provisional: "Also what a camera raised before it had learned enough",
    repeat: "Only what happens again and again",
    count: "So many times",
    within: "Within (minutes)",
    phases: "What counts as trouble",
    forS: "For so long (s)",
    recovery: "Its end is told too",
    schedule: "Only at these times",
    quiet: "Quiet hours, except for what is critical",
    actions: "Then",
    channels: "Tell",
    noChannel: "At least one channel.",
    priority: "Priority",
    asEvent: "As severe as the event is",
    language: "Language",
    asSite: "The site's",
    digest: "Collect, and tell together after (minutes)",
    digestHint: "0 tells each at once. What is critical never waits.",
    limit: "At most so many an hour",
    limitHint: "0 is no limit.",
    updates: "Amend the message when type, severity or description change",
    stop: "Do not ask the rules after it",
    escalation: "Tell others where nobody takes note",
    after: "After (minutes)",
    escalateTo: "Tell then",
    words: "Own words",
    subject: "Subject",
    text: "Text",
    textHint: "With $camera, $type, $severity, $score, $time, $reason, $description, $duration, $rule, $link, $similar. Empty: the usual words.",
    dry: "What would it have done last week?",
    dryRun: "Try it",
    sent: "Sent",
    suppressed: "Held back: like the one before",
    limited: "Held back: limit",
    looked: (count: string) => `of ${count} looked at`,
    matched: (count: string) => `${count} matched`,
    days: "Messages by day",
    incomplete: "There was more than was looked at.",
  },
  {
    add: "새 규칙",
    edit: (name: string) => `${name} 수정`,
    name: "이름",
    about: "대상",
    abouts: { events: "이벤트", health: "감시하지 않는 카메라" },
    conditions: "조건",
    cameras: "카메라",
    groups: "그룹",
    camerasHint: "선택하지 않으면 모든 카메라.",
    severity: "최소 심각도",
    types: "유형",
    typesHint: "선택하지 않으면 모든 유형.",
    score: "최소 점수",
    lasts: "최소 지속 시간(초)",
    zones: "구역",
    zonesHint: "구역 이름을 쉼표로 구분해 입력하세요.",
    provisional: "충분히 학습하기 전의 이벤트도 포함",
    repeat: "반복되는 것만",
    count: "횟수",
    within: "시간(분)",
    phases: "문제로 보는 상태",
    forS: "지속 시간(초)",
    recovery: "회복도 알림",
    schedule: "이 시간에만",
    quiet: "조용한 시간(심각한 것 제외)",
    actions: "동작",
    channels: "알릴 곳",
    noChannel: "채널을 하나 이상 선택하세요.",
    priority: "우선순위",
    asEvent: "이벤트의 심각도와 같게",
    language: "언어",
    asSite: "현장 설정",
    digest: "모아서 보내는 간격(분)",
    digestHint: "0이면 바로 보냅니다. 심각한 것은 기다리지 않습니다.",
    limit: "시간당 최대 건수",
    limitHint: "0이면 제한 없음.",
    updates: "유형, 심각도, 설명이 바뀌면 메시지 갱신",
    stop: "이후 규칙은 확인하지 않음",
    escalation: "아무도 확인하지 않으면 다른 곳에도 알림",
    after: "기다리는 시간(분)",
    escalateTo: "추가로 알릴 곳",
    words: "직접 쓴 문구",
    subject: "제목",
    text: "본문",
    textHint: "$camera, $type, $severity, $score, $time, $reason, $description, $duration, $rule, $link, $similar를 쓸 수 있습니다. 비우면 기본 문구.",
    dry: "지난주에 적용했다면?",
    dryRun: "시험해 보기",
    sent: "전송",
    suppressed: "보류: 직전과 비슷함",
    limited: "보류: 한도",
    looked: (count: string) => `확인 ${count}건`,
    matched: (count: string) => `일치 ${count}건`,
    days: "날짜별 메시지",
    incomplete: "확인하지 못한 내용이 더 있습니다.",
  },
);

const SEVERITIES: readonly Severity[] = ["info", "low", "medium", "high", "critical"];
const TROUBLE: readonly CameraPhase[] = ["disconnected", "connecting", "degraded", "backoff", "failed", "starting", "stopped"];
const EVENTS: EventConditions = { about: "events", cameras: [], groups: [], schedule: [], quiet: [], types: [], min_severity: "info", min_score: 0, min_duration_s: 0, zones: [], provisional: true, repeat: null };
const HEALTH: HealthConditions = { about: "health", cameras: [], groups: [], schedule: [], quiet: [], phases: ["disconnected", "connecting", "degraded", "backoff", "failed"], for_s: 60, recovery: true };

function fresh(channels: readonly Channel[]): RuleDraft {
  const actions: Actions = { channels: channels.slice(0, 1).map((one) => one.id), priority: null, language: null, template: { subject: "", text: "" }, escalation: null, digest_minutes: 0, limit_per_hour: 0, updates: true, stop: false };
  return { name: "", enabled: true, conditions: { ...EVENTS, min_severity: "medium" }, actions };
}

export function RuleEditor({ rule, channels, onClose, onSaved }: { rule: Rule | null; channels: readonly Channel[]; onClose: () => void; onSaved: () => void }) {
  const [draft, setDraft] = useState<RuleDraft>(() => (rule ? { name: rule.name, enabled: rule.enabled, conditions: rule.conditions, actions: rule.actions } : fresh(channels)));
  const { conditions, actions } = draft;
  const put = (part: Partial<RuleDraft>): void => setDraft({ ...draft, ...part });
  const act = (part: Partial<Actions>): void => put({ actions: { ...actions, ...part } });
  const when = (part: object): void => put({ conditions: { ...conditions, ...part } });
  const complete = draft.name.trim() !== "" && actions.channels.length > 0 && (actions.escalation === null || actions.escalation.channels.length > 0);
  const { busy, error, submit, field } = useSubmit(async () => {
    const body = { ...draft, name: draft.name.trim() };
    if (rule) await ask(api.PUT("/api/v1/notifications/rules/{rule_id}", { params: { path: { rule_id: rule.id } }, body }));
    else await ask(api.POST("/api/v1/notifications/rules", { body }));
    onSaved();
  });
  const asOptions = channels.map((one) => ({ value: one.id, label: one.name }));
  const amount = (label: string, value: number, onValue: (value: number) => void, hint?: string) => (
    <TextField label={label} hint={hint} type="number" min={0} step="any" value={String(value)} onValue={(given) => onValue(Number(given) || 0)} />
  );
  return (
    <Dialog
      kind="drawer"
      title={rule ? text().edit(rule.name) : text().add}
      onClose={onClose}
      foot={
        <>
          {error && <Notice kind="bad">{error}</Notice>}
          <Button onClick={onClose}>{common().cancel}</Button>
          <Button kind="primary" busy={busy} disabled={!complete} onClick={() => void submit()}>
            {common().save}
          </Button>
        </>
      }
    >
      <TextField label={text().name} value={draft.name} onValue={(name) => put({ name })} error={field("name")} maxLength={200} required autofocus />
      <div class="field">
        <span class="label">{text().about}</span>
        <Segments
          label={text().about}
          value={conditions.about}
          onChange={(about) => about !== conditions.about && put({ conditions: { ...(about === "events" ? EVENTS : HEALTH), cameras: conditions.cameras, groups: conditions.groups } })}
          options={(["events", "health"] as const).map((one) => ({ value: one, label: text().abouts[one] }))}
        />
      </div>
      <h2>{text().conditions}</h2>
      <Ticks label={text().cameras} hint={text().camerasHint} options={(cameras.value ?? []).map((one) => ({ value: one.id, label: one.name }))} value={conditions.cameras} onValue={(value) => when({ cameras: value })} />
      {groups.value.length > 0 && <Ticks label={text().groups} options={groups.value.map((one) => ({ value: one.id, label: one.name }))} value={conditions.groups} onValue={(value) => when({ groups: value })} />}
      {conditions.about === "events" ? <OfEvents conditions={conditions} when={when} amount={amount} /> : <OfHealth conditions={conditions} when={when} amount={amount} />}
      <Schedule label={text().schedule} value={conditions.schedule} onValue={(schedule) => when({ schedule })} />
      <Schedule label={text().quiet} empty="never" value={conditions.quiet} onValue={(quiet) => when({ quiet })} />
      <h2>{text().actions}</h2>
      <Ticks label={text().channels} options={asOptions} value={actions.channels} onValue={(value) => act({ channels: value })} error={actions.channels.length ? undefined : text().noChannel} />
      <div class="grid-2">
        <SelectField label={text().priority} value={actions.priority ?? ""} onValue={(value) => act({ priority: (value || null) as Severity | null })} options={[{ value: "", label: text().asEvent }, ...SEVERITIES.map((one) => ({ value: one, label: severities()[one] }))]} />
        <SelectField
          label={text().language}
          value={actions.language ?? ""}
          onValue={(value) => act({ language: (value || null) as Actions["language"] })}
          options={[
            { value: "", label: text().asSite },
            { value: "en", label: "English" },
            { value: "ko", label: "한국어" },
          ]}
        />
        {amount(text().digest, actions.digest_minutes, (digest_minutes) => act({ digest_minutes }), text().digestHint)}
        {amount(text().limit, actions.limit_per_hour, (limit) => act({ limit_per_hour: Math.round(limit) }), text().limitHint)}
      </div>
      <div>
        <CheckBox label={text().updates} checked={actions.updates} onValue={(updates) => act({ updates })} />
        <CheckBox label={text().stop} checked={actions.stop} onValue={(stop) => act({ stop })} />
        <CheckBox label={text().escalation} checked={actions.escalation !== null} onValue={(on) => act({ escalation: on ? { after_minutes: 5, channels: channels.slice(-1).map((one) => one.id) } : null })} />
      </div>
      {actions.escalation && (
        <div class="inner stack">
          {amount(text().after, actions.escalation.after_minutes, (after_minutes) => actions.escalation && act({ escalation: { ...actions.escalation, after_minutes } }))}
          <Ticks label={text().escalateTo} options={asOptions} value={actions.escalation.channels} onValue={(value) => actions.escalation && act({ escalation: { ...actions.escalation, channels: value } })} />
        </div>
      )}
      <details>
        <summary>{text().words}</summary>
        <div class="inner stack">
          <TextField label={text().subject} value={actions.template.subject} maxLength={200} onValue={(subject) => act({ template: { ...actions.template, subject } })} />
          <TextArea label={text().text} hint={text().textHint} value={actions.template.text} maxLength={4000} onValue={(words) => act({ template: { ...actions.template, text: words } })} />
        </div>
      </details>
      <Dry draft={draft} complete={complete} />
    </Dialog>
  );
}

type Amount = (label: string, value: number, onValue: (value: number) => void, hint?: string) => preact.JSX.Element;

function OfEvents({ conditions, when, amount }: { conditions: EventConditions; when: (part: Partial<EventConditions>) => void; amount: Amount }) {
  const { repeat } = conditions;
  return (
    <>
      <div class="grid-2">
        <SelectField label={text().severity} value={conditions.min_severity} onValue={(value) => when({ min_severity: value as Severity })} options={SEVERITIES.map((one) => ({ value: one, label: severities()[one] }))} />
        {amount(text().score, conditions.min_score, (min_score) => when({ min_score }))}
        {amount(text().lasts, conditions.min_duration_s, (min_duration_s) => when({ min_duration_s }))}
        <TextField label={text().zones} hint={text().zonesHint} value={conditions.zones.join(", ")} onValue={(value) => when({ zones: value.split(",").map((one) => one.trim()).filter(Boolean) })} />
      </div>
      <Ticks label={text().types} hint={text().typesHint} options={Object.entries(types()).filter(([value]) => value !== "normal").map(([value, label]) => ({ value, label }))} value={conditions.types} onValue={(value) => when({ types: value })} />
      <div>
        <CheckBox label={text().provisional} checked={conditions.provisional} onValue={(provisional) => when({ provisional })} />
        <CheckBox label={text().repeat} checked={repeat !== null} onValue={(on) => when({ repeat: on ? { count: 3, within_s: 600 } : null })} />
      </div>
      {repeat && (
        <div class="grid-2 inner">
          {amount(text().count, repeat.count, (count) => when({ repeat: { ...repeat, count: Math.max(2, Math.round(count)) } }))}
          {amount(text().within, repeat.within_s / 60, (minutes) => when({ repeat: { ...repeat, within_s: Math.max(1, minutes * 60) } }))}
        </div>
      )}
    </>
  );
}

function OfHealth({ conditions, when, amount }: { conditions: HealthConditions; when: (part: Partial<HealthConditions>) => void; amount: Amount }) {
  return (
    <>
      <Ticks label={text().phases} options={TROUBLE.map((one) => ({ value: one, label: phases()[one] }))} value={conditions.phases} onValue={(value) => value.length && when({ phases: value as CameraPhase[] })} />
      <div class="grid-2">{amount(text().forS, conditions.for_s, (for_s) => when({ for_s }))}</div>
      <CheckBox label={text().recovery} checked={conditions.recovery} onValue={(recovery) => when({ recovery })} />
    </>
  );
}

function Dry({ draft, complete }: { draft: RuleDraft; complete: boolean }) {
  const [found, setFound] = useState<{ of: string; run: DryRun } | null>(null);
  const asked = JSON.stringify([draft.conditions, draft.actions]);
  const { busy, error, submit } = useSubmit(async () => {
    const rule = { ...draft, name: draft.name.trim() || "-" };
    setFound({ of: asked, run: await ask(api.POST("/api/v1/notifications/dry-run", { body: { rule, since: "", until: "" } })) });
  });
  const run = found?.of === asked ? found.run : null;
  const most = Math.max(1, ...(run?.days ?? []).map((one) => one.sent + one.suppressed));
  return (
    <section class="card stack tight" aria-live="polite">
      <div class="row between">
        <h2>{text().dry}</h2>
        <Button icon="play" busy={busy} disabled={!complete && draft.actions.channels.length === 0} onClick={() => void submit()}>
          {text().dryRun}
        </Button>
      </div>
      {error && <Notice kind="bad">{error}</Notice>}
      {run && (
        <>
          <dl class="facts">
            <dt>{text().sent}</dt>
            <dd>
              <strong>{number(run.sent)}</strong>{" "}
              <span class="muted">
                {text().matched(number(run.matched))}, {text().looked(number(run.looked_at))}
              </span>
            </dd>
            <dt>{text().suppressed}</dt>
            <dd>{number(run.suppressed)}</dd>
            <dt>{text().limited}</dt>
            <dd>{number(run.limited)}</dd>
          </dl>
          {run.days.length > 0 && (
            <ul class="shares" aria-label={text().days}>
              {run.days.map((one) => (
                <li key={one.day}>
                  <span class="num">{one.day}</span>
                  <span class="bar" aria-hidden>
                    <i style={{ width: `${(100 * one.sent) / most}%` }} />
                  </span>
                  <span class="num">{number(one.sent)}</span>
                </li>
              ))}
            </ul>
          )}
          {!run.complete && <p class="muted small">{text().incomplete}</p>}
        </>
      )}
    </section>
  );
}
