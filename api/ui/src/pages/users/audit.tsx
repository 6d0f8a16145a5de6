/** Who did what, the newest first; kept by filters in the address, read page by page. */
import { useEffect, useState } from "preact/hooks";
import { api, ask } from "../../api/client";
import type { AuditEntry } from "../../api/schema";
import { Button } from "../../components/button";
import { Failed, Empty, Loading } from "../../components/states";
import { Table } from "../../components/table";
import { dateTime } from "../../i18n";
import { actionName, actionNames } from "../../i18n/actions";
import { common } from "../../i18n/common";
import { csv, saveFile } from "../../save-file";
import { cameraName } from "../../store/cameras";
import { text } from "./texts";

const PAGE = 100;
type Filter = { from: string; to: string; actor: string; action: string };

export function Audit() {
  const [filter, setFilter] = useState<Filter>({ from: "", to: "", actor: "", action: "" });
  const [entries, setEntries] = useState<readonly AuditEntry[] | null>(null);
  const [before, setBefore] = useState<string | null>(null);
  const [problem, setProblem] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const words = text().audit;
  const key = JSON.stringify(filter);
  const read = async (after: string, kept: readonly AuditEntry[], current: () => boolean): Promise<void> => {
    setBusy(true);
    try {
      const { from, to, actor, action } = filter;
      const query = {
        limit: PAGE,
        before: after,
        ...(from ? { from: new Date(`${from}T00:00`).toISOString() } : {}),
        ...(to ? { to: new Date(Date.parse(`${to}T00:00`) + 86_400_000).toISOString() } : {}),
        ...(actor ? { actor } : {}),
        ...(action ? { action } : {}),
      };
      const page = await ask(api.GET("/api/v1/audit", { params: { query } }));
      if (!current()) return;
      setEntries([...kept, ...page.entries]);
      setBefore(page.before);
      setProblem(null);
    } catch (error) {
      if (current()) setProblem(error);
    } finally {
      if (current()) setBusy(false);
    }
  };
  useEffect(() => {
    let over = false;
    const timer = setTimeout(() => void read("", [], () => !over), 250);
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, [key]);
  const put = (part: Partial<Filter>): void => setFilter({ ...filter, ...part });
  const exportAll = (): void => {
    const rows = (entries ?? []).map((one) => [one.at, one.actor, one.action, one.target, JSON.stringify(one.detail), one.address, one.request_id]);
    saveFile("haetae-audit.csv", "text/csv", csv([["at", "actor", "action", "target", "detail", "address", "request_id"], ...rows]));
  };
  return (
    <>
      <div class="row wrap controls">
        <input class="input auto" type="date" aria-label={words.from} value={filter.from} onChange={(event) => put({ from: event.currentTarget.value })} />
        <span aria-hidden>–</span>
        <input class="input auto" type="date" aria-label={words.to} value={filter.to} onChange={(event) => put({ to: event.currentTarget.value })} />
        <input class="input auto" type="search" aria-label={words.actor} placeholder={words.actor} value={filter.actor} onInput={(event) => put({ actor: event.currentTarget.value.trim() })} />
        <select class="input auto" aria-label={words.action} value={filter.action} onChange={(event) => put({ action: event.currentTarget.value })}>
          <option value="">{words.anyAction}</option>
          {Object.entries(actionNames()).map(([value, label]) => (
            <option key={value} value={value}>
              {label}
            </option>
          ))}
        </select>
        <Button icon="download" disabled={!entries?.length} onClick={exportAll}>
          {words.export}
        </Button>
      </div>
      {entries === null ? (
        problem === null ? (
          <Loading />
        ) : (
          <Failed error={problem} onRetry={() => void read("", [], () => true)} />
        )
      ) : entries.length === 0 ? (
        <Empty icon="search" title={words.none} />
      ) : (
        <>
          <Table
            caption={text().tabs.audit}
            rows={entries}
            rowKey={(one) => one.id}
            columns={[
              { key: "at", title: words.at, cell: (one) => <span class="num">{dateTime(one.at)}</span> },
              { key: "actor", title: words.actor, cell: (one) => one.actor || <span class="muted">{words.anonymous}</span> },
              { key: "action", title: words.action, cell: (one) => <span class={/refused|failed|reused/.test(one.action) ? "badge bad" : ""}>{actionName(one.action)}</span> },
              { key: "target", title: words.target, cell: (one) => (one.action.startsWith("camera.") ? cameraName(one.target) : <span class="target">{one.target}</span>) },
              { key: "detail", title: words.detail, cell: (one) => <Detail entry={one} /> },
              { key: "address", title: words.address, cell: (one) => <span class="mono small">{one.address}</span> },
            ]}
          />
          {problem !== null && <Failed error={problem} />}
          {before && (
            <Button busy={busy} onClick={() => void read(before, entries, () => true)}>
              {common().more}
            </Button>
          )}
        </>
      )}
    </>
  );
}

function Detail({ entry }: { entry: AuditEntry }) {
  const parts = Object.entries<unknown>(entry.detail);
  if (parts.length === 0) return null;
  const words = parts.map(([name, value]) => `${name}: ${typeof value === "string" ? value : JSON.stringify(value)}`).join(", ");
  return (
    <span class="mono small detail" title={words}>
      {words}
    </span>
  );
}
