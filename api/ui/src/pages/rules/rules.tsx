/** The rules, in the order in which they are asked. */
import { useState } from "preact/hooks";
import { api, ask } from "../../api/client";
import type { Channel, Rule } from "../../api/schema";
import { Asked } from "../../components/asked";
import { Button } from "../../components/button";
import { Show } from "../../components/loaded";
import { SeverityMark } from "../../components/marks";
import { Empty } from "../../components/states";
import { Switch } from "../../components/switch";
import { failed, toast } from "../../components/toast";
import { common } from "../../i18n/common";
import { useLoad } from "../../load";
import { groups } from "../../store/cameras";
import { RuleEditor } from "./rule-editor";
import { ruleWords } from "./rule-words";
import { text } from "./texts";

export function Rules() {
  const found = useLoad(async () => {
    const [rules, channels] = await Promise.all([ask(api.GET("/api/v1/notifications/rules")), ask(api.GET("/api/v1/notifications/channels"))]);
    return { rules: [...rules].sort((a, b) => a.position - b.position), channels };
  });
  const [edited, setEdited] = useState<Rule | "new" | null>(null);
  const words = text().rules;
  return (
    <Show of={found}>
      {({ rules, channels }) => (
        <>
          <div class="row wrap">
            <Button kind="primary" icon="plus" disabled={channels.length === 0} onClick={() => setEdited("new")}>
              {words.add}
            </Button>
            {rules.length > 1 && <span class="muted small">{words.order}</span>}
          </div>
          {rules.length === 0 ? (
            <Empty icon="rules" title={words.none}>
              {words.noneLead}
            </Empty>
          ) : (
            <ol class="rule-rows">
              {rules.map((rule, at) => (
                <Row
                  key={rule.id}
                  rule={rule}
                  first={at === 0}
                  last={at === rules.length - 1}
                  channels={channels}
                  onEdit={() => setEdited(rule)}
                  onChange={(after) => found.set({ channels, rules: after ? [...after].sort((a, b) => a.position - b.position) : rules.filter((one) => one !== rule) })}
                  onOne={(after) => found.set({ channels, rules: rules.map((one) => (one.id === after.id ? after : one)) })}
                />
              ))}
            </ol>
          )}
          {edited && (
            <RuleEditor
              rule={edited === "new" ? null : edited}
              channels={channels}
              onClose={() => setEdited(null)}
              onSaved={() => {
                setEdited(null);
                toast(common().saved);
                void found.reload();
              }}
            />
          )}
        </>
      )}
    </Show>
  );
}

function Row(props: {
  rule: Rule;
  first: boolean;
  last: boolean;
  channels: readonly Channel[];
  onEdit: () => void;
  onChange: (rules: readonly Rule[] | null) => void;
  onOne: (rule: Rule) => void;
}) {
  const { rule, channels } = props;
  const words = text().rules;
  const params = { path: { rule_id: rule.id } };
  const move = (by: number): void =>
    void ask(api.POST("/api/v1/notifications/rules/{rule_id}/move", { params, body: { position: Math.max(0, rule.position + by) } })).then(props.onChange, failed);
  const turn = (enabled: boolean): void => {
    const { name, conditions, actions } = rule;
    void ask(api.PUT("/api/v1/notifications/rules/{rule_id}", { params, body: { name, conditions, actions, enabled } })).then(props.onOne, failed);
  };
  const { conditions, actions } = rule;
  return (
    <li class={`card rule${rule.enabled ? "" : " off"}`}>
      <Switch label={words.on(rule.name)} checked={rule.enabled} onValue={turn} />
      <div class="stack tight grow">
        <div class="row wrap">
          <strong>{rule.name}</strong>
          {conditions.about === "events" && conditions.min_severity !== "info" && <SeverityMark severity={conditions.min_severity} />}
        </div>
        <p class="muted small">{ruleWords(rule, channels, groups.value)}</p>
        {actions.stop && <p class="muted small">{words.stops}</p>}
      </div>
      <div class="actions">
        <Button small kind="quiet" icon="up" aria-label={words.up(rule.name)} disabled={props.first} onClick={() => move(-1)} />
        <Button small kind="quiet" icon="down" aria-label={words.down(rule.name)} disabled={props.last} onClick={() => move(1)} />
        <Button small icon="edit" aria-label={`${words.edit}: ${rule.name}`} onClick={props.onEdit}>
          {words.edit}
        </Button>
        <Asked
          small
          quiet
          word={common().remove}
          label={words.remove(rule.name)}
          icon="trash"
          title={words.remove(rule.name)}
          why={words.removeWhy}
          onDo={async () => {
            await ask(api.DELETE("/api/v1/notifications/rules/{rule_id}", { params }));
            toast(words.removed(rule.name));
            props.onChange(null);
          }}
        />
      </div>
    </li>
  );
}
