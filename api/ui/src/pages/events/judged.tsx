/** What an event was taken to be, how that was decided, and what people said of it. */
import type { Analysis, EventDetailOut, EventStep } from "../../api/schema";
import { Button } from "../../components/button";
import { Notice } from "../../components/states";
import { clockTime, dateTime, language, percent } from "../../i18n";
import { analysisStatuses, typeName, verdicts } from "../../i18n/common";
import { stepKind, text } from "./texts";

export function Judged({ analysis, description }: { analysis: Analysis | null; description: string }) {
  return (
    <section class="stack tight">
      <h3>{text().analysis}</h3>
      {!analysis && <p class="muted">{description || text().notJudged}</p>}
      {analysis && <Words analysis={analysis} />}
    </section>
  );
}

function Words({ analysis }: { analysis: Analysis }) {
  const korean = language.value === "ko" && analysis.description_ko !== "";
  return (
    <>
      <p lang={korean ? "ko" : "en"}>{korean ? analysis.description_ko : analysis.description}</p>
      {analysis.observations.length > 0 && (
        <ul class="observations small">
          {analysis.observations.map((one) => (
            <li key={one}>{one}</li>
          ))}
        </ul>
      )}
      {analysis.text_instruction_seen && <Notice kind="warn">{text().instruction}</Notice>}
      <dl class="facts small">
        <dt>{text().verdict}</dt>
        <dd>
          {verdicts()[analysis.verdict]}
          {analysis.candidate && <span class="muted">{` · ${text().candidate}`}</span>}
        </dd>
        <dt>{text().confidence}</dt>
        <dd>
          {percent(analysis.confidence)}{" "}
          <span class="muted">{analysis.confidence_kind === "heuristic" ? text().byRule : text().byModel}</span>
        </dd>
        {analysis.alt_types.length > 0 && (
          <>
            <dt>{text().alternatives}</dt>
            <dd>{analysis.alt_types.map(typeName).join(", ")}</dd>
          </>
        )}
        {analysis.people_count !== null && (
          <>
            <dt>{text().people}</dt>
            <dd>{analysis.people_count}</dd>
          </>
        )}
        {analysis.vehicle_count !== null && (
          <>
            <dt>{text().vehicles}</dt>
            <dd>{analysis.vehicle_count}</dd>
          </>
        )}
        {analysis.visible_text.length > 0 && (
          <>
            <dt>{text().visible}</dt>
            <dd>{analysis.visible_text.map((one) => `“${one}”`).join(" ")}</dd>
          </>
        )}
        <dt>{text().by}</dt>
        <dd>
          {analysis.source}
          {analysis.status !== "ok" && <span class="muted">{` · ${text().standIn(analysisStatuses()[analysis.status])}`}</span>}
        </dd>
      </dl>
    </>
  );
}

export function Steps({ steps }: { steps: readonly EventStep[] }) {
  if (!steps.length) return null;
  return (
    <section class="stack tight">
      <h3>{text().steps}</h3>
      <ol class="steps">
        {steps.map((step, index) => (
          <li key={index}>
            <span class="num small muted">{clockTime(step.at)}</span>
            <div>
              <strong class="small">{stepKind(step.kind)}</strong> <span>{step.text}</span>
              {Object.keys(step.data).length > 0 && (
                <details>
                  <summary class="small muted">{text().data}</summary>
                  <pre tabIndex={0}>{JSON.stringify(step.data, null, 2)}</pre>
                </details>
              )}
            </div>
          </li>
        ))}
      </ol>
    </section>
  );
}

type Said = { at: string; words: string; more: string; undo: boolean };

export function History({ detail, onUndo }: { detail: EventDetailOut; onUndo: (() => void) | null }) {
  const said: Said[] = detail.acknowledgements.flatMap((one) => {
    const more = [one.reason, one.note, one.assignee && `${text().assignee}: ${one.assignee}`].filter(Boolean).join(" · ");
    const given: Said = { at: one.at, words: text().ackBy(one.actor), more, undo: one.undone_at === null };
    const taken: Said[] = one.undone_at
      ? [{ at: one.undone_at, words: text().undoneBy(one.undone_by ?? ""), more: "", undo: false }]
      : [];
    return [given, ...taken];
  });
  for (const one of detail.feedback)
    said.push({
      at: one.at,
      words: one.verdict === "normal" ? text().saidNormal(one.actor) : text().saidReal(one.actor),
      more: one.note,
      undo: false,
    });
  said.sort((a, b) => (a.at < b.at ? -1 : 1));
  return (
    <section class="stack tight">
      <h3>{text().history}</h3>
      {said.length === 0 && <p class="muted small">{text().noHistory}</p>}
      <ul class="stack tight small">
        {said.map((one) => (
          <li key={one.at + one.words} class="row between">
            <span>
              {one.words}
              {one.more && <span class="muted">{` · ${one.more}`}</span>}
              <span class="muted num">{` · ${dateTime(one.at)}`}</span>
            </span>
            {one.undo && onUndo && (
              <Button small kind="quiet" onClick={onUndo}>
                {text().undoAck}
              </Button>
            )}
          </li>
        ))}
      </ul>
    </section>
  );
}
