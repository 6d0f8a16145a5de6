/** One event and all that hangs on it. */
import { useEffect, useRef, useState } from "preact/hooks";
import { api, ask } from "../../api/client";
import { ApiProblem } from "../../api/problem";
import type { EventDetailOut } from "../../api/schema";
import { Button } from "../../components/button";
import { Icon } from "../../components/icons";
import { SeverityMark } from "../../components/marks";
import { Empty, Failed, Loading } from "../../components/states";
import { failed, toast } from "../../components/toast";
import { dateTime, duration, number } from "../../i18n";
import { eventStates, typeName } from "../../i18n/common";
import { useKeys } from "../../keyboard";
import { onLive } from "../../live/events";
import { may } from "../../session";
import { cameraName, camerasById } from "../../store/cameras";
import { giveFeedback, mediaUrl, setLock, undoAcknowledgement } from "./actions";
import { ScoreCurve } from "./curve";
import { History, Judged, Steps } from "./judged";
import { Measured } from "./measured";
import { Media } from "./picture";
import { text } from "./texts";

const SETTLE_MS = 300;

export function Detail({ id, onAck, onBack }: { id: string; onAck: () => void; onBack: () => void }) {
  const [detail, setDetail] = useState<EventDetailOut | null>(null);
  const [problem, setProblem] = useState<unknown>(null);
  const [round, setRound] = useState(0);
  const clip = useRef<HTMLVideoElement>(null);

  useEffect(() => {
    let over = false;
    ask(api.GET("/api/v1/events/{event_id}", { params: { path: { event_id: id } } })).then(
      (found) => {
        if (over) return;
        setDetail(found);
        setProblem(null);
      },
      (error: unknown) => !over && setProblem(error),
    );
    return () => {
      over = true;
    };
  }, [id, round]);

  useEffect(() => {
    let timer = 0;
    const again = (): void => {
      clearTimeout(timer);
      timer = window.setTimeout(() => setRound((one) => one + 1), SETTLE_MS);
    };
    const stops = [onLive("event", (news) => news.event.id === id && again()), onLive("reset", again)];
    return () => {
      clearTimeout(timer);
      for (const stop of stops) stop();
    };
  }, [id]);

  const shown = detail?.event.id === id ? detail : null;
  const act = (work: Promise<EventDetailOut | null>): void => {
    work.then((done) => done && setDetail(done)).catch(failed);
  };
  const lock = (): void => {
    if (shown && may("operator")) act(setLock(id, !shown.event.locked));
  };
  const feedback = (verdict: "normal" | "real"): void => {
    if (shown && may("operator")) act(giveFeedback(id, verdict));
  };
  useKeys([
    ...(may("operator")
      ? [
          { keys: ["n"], label: text().normal, run: () => feedback("normal") },
          { keys: ["r"], label: text().real, run: () => feedback("real") },
          { keys: ["v"], label: text().keyLock, run: lock },
        ]
      : []),
    {
      keys: [" "],
      label: text().keyPlay,
      run: () => {
        const video = clip.current;
        if (video) void (video.paused ? video.play() : Promise.resolve(video.pause()));
      },
    },
  ]);

  if (problem && !shown) {
    if (problem instanceof ApiProblem && problem.status === 404) return <Empty icon="off" title={text().gone} />;
    return <Failed error={problem} onRetry={() => setRound((one) => one + 1)} />;
  }
  if (!shown) return <Loading />;
  const { event } = shown;
  const open = camerasById.value.get(event.camera_id)?.observed?.open_score ?? null;
  const verdict = shown.feedback.at(-1)?.verdict;
  return (
    <article class="detail" aria-label={text().detail} key={id}>
      <header class="detail-head">
        <Button kind="quiet" icon="left" aria-label={text().backToList} onClick={onBack} />
        <div class="detail-title">
          <h2>
            {typeName(event.vlm_type)} <span class="muted">{cameraName(event.camera_id)}</span>
          </h2>
          <div class="row wrap small">
            <SeverityMark severity={event.severity} />
            <span class={`badge ${event.state === "open" ? "warn" : ""}`}>{eventStates()[event.state]}</span>
            {event.acknowledged_at && <span class="badge good">{text().acknowledged}</span>}
            {event.locked && (
              <span class="badge">
                <Icon name="lock" size={12} />
                {text().evidence}
              </span>
            )}
            {event.provisional && <span class="badge warn">{text().provisional}</span>}
          </div>
        </div>
      </header>
      {may("operator") && (
        <div class="row wrap">
          <Button kind="primary" icon="check" disabled={event.acknowledged_at !== null} onClick={onAck}>
            {event.acknowledged_at ? text().acknowledged : text().acknowledge}
          </Button>
          <Button aria-pressed={verdict === "normal"} onClick={() => feedback("normal")}>
            {text().normal}
          </Button>
          <Button aria-pressed={verdict === "real"} onClick={() => feedback("real")}>
            {text().real}
          </Button>
          <Button icon={event.locked ? "unlock" : "lock"} aria-pressed={event.locked} onClick={lock}>
            {event.locked ? text().unlock : text().lock}
          </Button>
        </div>
      )}
      <Media detail={shown} clipRef={clip} />
      <section class="stack tight">
        <h3>{text().curve}</h3>
        {shown.scores.length > 1 ? (
          <ScoreCurve scores={shown.scores} event={event} open={open} />
        ) : (
          <p class="muted small">{text().noCurve}</p>
        )}
      </section>
      <Measured detail={shown} />
      <Judged analysis={shown.analysis} description={event.description} />
      <History detail={shown} onUndo={may("operator") ? () => act(undoAcknowledgement(id)) : null} />
      <Steps steps={shown.steps} />
      <section class="stack tight">
        <h3>{text().files}</h3>
        <dl class="facts small">
          <dt>{text().began}</dt>
          <dd class="num">{dateTime(event.began_at)}</dd>
          <dt>{text().lasted}</dt>
          <dd>{duration(event.duration_s)}</dd>
          <dt>{text().peak}</dt>
          <dd>{number(event.peak_score, 2)}</dd>
          <dt>{text().detector}</dt>
          <dd>{event.vad_type}</dd>
          <dt>{text().id}</dt>
          <dd class="row">
            <code class="cut">{event.id}</code>
            <Button small kind="quiet" icon="copy" aria-label={text().copy} onClick={() => void copy(event.id)} />
          </dd>
        </dl>
        <div class="row wrap">
          {shown.media
            .filter((one) => DOWNLOADS.includes(one.kind))
            .map((one) => (
              <a key={one.kind} class="button small" href={mediaUrl(id, one.kind)} download={`${event.camera_id}-${id}-${one.kind}`}>
                <Icon name="download" size={16} />
                {one.kind} <span class="muted num">{size(one.size_bytes)}</span>
              </a>
            ))}
        </div>
      </section>
    </article>
  );
}

const DOWNLOADS: readonly string[] = ["snapshot", "clean", "heatmap", "turned", "clip", "evidence"];

const size = (bytes: number): string => (bytes < 1e6 ? `${number(bytes / 1e3)} kB` : `${number(bytes / 1e6, 1)} MB`);

async function copy(id: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(id);
    toast(text().copied);
  } catch (error) {
    failed(error);
  }
}
