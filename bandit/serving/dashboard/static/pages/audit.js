// Who changed what, when and from where.
import { ask, at } from "../lib/api.js";
import { fullTime } from "../lib/format.js";
import { html, useState } from "../lib/html.js";
import { useLive } from "../lib/live.js";
import { link } from "../lib/route.js";
import { Loaded } from "../parts/notice.js";
import { Table } from "../parts/table.js";
import { Pages } from "./arms.js";

const PAGE = 50;

/** @param {{only: string}} how of this experiment only; empty: all */
export function Audit({ only }) {
  const [pages, turn] = useState([""]);
  const cursor = pages.at(-1);
  const live = useLive((signal) => ask(at("audit"), { query: { limit: PAGE, cursor, experiment: only }, signal }), cursor ? 0 : 10, [cursor, only]);
  const columns = [
    { name: "When", head: true, cell: (row) => fullTime(row.at) },
    { name: "Who", cell: (row) => html`${row.actor} <span class="muted">(${row.role})</span>` },
    { name: "From", cell: (row) => row.address || "–" },
    { name: "What", cell: (row) => row.action + (row.outcome === "unknown" ? " (whether it was done is not known)" : "") },
    { name: "Of", cell: (row) => row.target },
    { name: "Change", cell: (row) => html`<${Difference} before=${row.before} after=${row.after} />` },
  ];
  return html`<h1>Audit</h1>
    ${only && html`<p>Only of ${only}. <a href=${link("audit")}>Show all</a></p>`}
    <${Loaded} live=${live} what="the audit log">${(found) => html`
      <${Table} caption="Changes of experiments, arms and keys, the newest first" columns=${columns} rows=${found.entries}
        id=${(row) => `${row.at} ${row.request_id} ${row.target}`} empty="Nothing was changed yet." />
      <${Pages} pages=${pages} turn=${turn} next=${found.next} shown=${`${found.entries.length} on this page.`} />`}<//>`;
}

const FEW = 3; // places that are shown at once

/** Each place, by its pointer, with what was there and is. */
function Difference({ before = {}, after = {} }) {
  const places = [...new Set([...Object.keys(before), ...Object.keys(after)])];
  if (!places.length) return html`<span class="muted">–</span>`;
  const line = (place) => html`<div key=${place}><code>${place || "/"}</code> ${text(before[place])} → ${text(after[place])}</div>`;
  if (places.length <= FEW) return places.map(line);
  return html`<details><summary>${places.length} places</summary>${places.map(line)}</details>`;
}

function text(value) {
  if (value === undefined || value === null) return "nothing";
  const whole = typeof value === "string" ? value : JSON.stringify(value);
  return whole.length > 120 ? `${whole.slice(0, 119)}…` : whole;
}
