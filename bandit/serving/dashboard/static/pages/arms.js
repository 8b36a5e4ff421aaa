// What there is to choose from, a page at a time: what each arm has seen, and what is expected of it by segment.
import { ask, experiment } from "../lib/api.js";
import { count, number } from "../lib/format.js";
import { html, useState } from "../lib/html.js";
import { useLive } from "../lib/live.js";
import { mayChange, viewer } from "../lib/session.js";
import { useStore } from "../lib/store.js";
import { Changes, Confirm } from "../parts/dialog.js";
import { Interval, scaleOf } from "../parts/interval.js";
import { Failure, Loaded } from "../parts/notice.js";
import { Table } from "../parts/table.js";
import { Status } from "./experiments.js";
import { Choice } from "./overview.js";

const PAGE = 50;

export function Arms({ document, again }) {
  return html`<${Seen} document=${document} again=${again} /><${Segments} document=${document} />`;
}

/** Buttons for the pages of a list, and what is left out. */
export function Pages({ pages, turn, next, shown }) {
  if (pages.length === 1 && !next) return null;
  return html`<p class="buttons"><span class="muted">${shown}</span>
    <button disabled=${pages.length === 1} onClick=${() => turn(pages.slice(0, -1))}>Previous</button>
    <button disabled=${!next} onClick=${() => turn([...pages, next])}>Next</button></p>`;
}

function Seen({ document, again }) {
  const who = useStore(viewer);
  const [pages, turn] = useState([0]);
  const [asking, open] = useState(null);
  const cursor = pages.at(-1);
  const { name } = document;
  const live = useLive((signal) => ask(experiment(name, "arms"), { query: { limit: PAGE, cursor }, signal }), 5, [name, cursor]);
  const total = document.arms.length;
  const kinds = Object.keys(document.rewards);
  const columns = [
    { name: "Arm", head: true, cell: (row) => row.arm },
    { name: "Status", cell: (row) => html`<${Status} status=${row.status} />` },
    { name: "Impressions", number: true, cell: (row) => count(row.impressions) },
    ...kinds.flatMap((kind) => [
      { name: `${kind}, sum`, number: true, cell: (row) => number(row.rewards[kind]?.sum) },
      { name: `${kind}, mean`, number: true, cell: (row) => (row.impressions ? number(row.rewards[kind]?.mean) : "–") },
    ]),
  ];
  if (mayChange(who)) columns.push({ name: "Change", cell: (row) => html`<${Switch} row=${row} open=${open} />` });
  const done = (changed) => {
    open(null);
    if (changed) (live.again(), again());
  };
  return html`<section aria-labelledby="seen"><h3 id="seen">What each arm has seen</h3>
    <${Loaded} live=${live} what="the arms">${(found) => html`
      <${Table} caption="All decisions since the experiment began, retired arms too" columns=${columns} rows=${found.arms} id=${(row) => row.arm} empty="No arms yet." />
      <${Pages} pages=${pages} turn=${turn} next=${found.next}
        shown=${`${found.arms.length} arms of ${count(total)} in the document and those retired; the others are on other pages.`} />`}<//>
    <p class="muted">Means compare what different visitors did: an arm that is shown to the likeliest buyers looks better than it is.</p>
    ${asking && html`<${Switching} name=${name} asking=${asking} close=${done} />`}</section>`;
}

function Switch({ row, open }) {
  if (row.status === "retired") return html`<span class="muted">retired</span>`;
  const to = row.status === "paused" ? "active" : "paused";
  const text = to === "paused" ? "Pause" : "Resume";
  return html`<button onClick=${() => open({ arm: row.arm, to, text })}>${text}<span class="unseen"> ${row.arm}</span></button>`;
}

function Switching({ name, asking, close }) {
  const path = experiment(name, "arms", asking.arm);
  const body = { status: asking.to };
  const dry = useLive((signal) => ask(path, { method: "PATCH", query: { dry_run: true }, body, signal }), 0, [path]);
  const act = () => ask(path, { method: "PATCH", body });
  return html`<${Confirm} title=${`${asking.text} ${asking.arm}?`} action=${asking.text} act=${act} close=${close}>
    ${asking.to === "paused" && html`<p>It is not shown any more, from the next decision on. What it has learned is kept, and feedback still counts.</p>`}
    <${Failure} error=${dry.error} what="what would change" />
    ${dry.data && html`<${Changes} found=${dry.data} />`}<//>`;
}

const SEGMENTED = new Set(["number", "boolean", "category"]);

function Segments({ document }) {
  const features = document.features.filter((feature) => SEGMENTED.has(feature.type));
  const [segment, choose] = useState(features[0]?.name ?? "");
  const [pages, turn] = useState([0]);
  const { name } = document;
  const cursor = pages.at(-1);
  const query = { segment, limit: PAGE, cursor };
  const live = useLive((signal) => ask(experiment(name, "estimates"), { query, signal }), 15, [name, segment, cursor]);
  return html`<section aria-labelledby="segments"><div class="title"><h3 id="segments">What is expected of each arm</h3>
      <${Choice} label="By" options=${[["", "all contexts"], ...features.map((f) => [f.name, f.name])]} chosen=${segment} choose=${choose} /></div>
    <${Loaded} live=${live} what="estimates">${(found) => html`<${Expected} found=${found} />
      <${Pages} pages=${pages} turn=${turn} next=${found.next} shown=${`${found.arms.length} arms are shown; the others are on other pages.`} />`}<//></section>`;
}

/** A segment of a number by its ends, with as many digits as tell. */
const nameOf = (segment) => (segment.low === null ? segment.name || "all" : `${number(segment.low)} to ${number(segment.high)}`);

function Expected({ found }) {
  if (!found.contexts) return html`<p class="muted">Not enough data yet: no contexts have come.</p>`;
  const scale = scaleOf(found.arms.flatMap((row) => row.estimates));
  const columns = [
    { name: "Arm", head: true, cell: (row) => row.arm },
    ...found.segments.map((segment) => ({
      name: html`${nameOf(segment)} <span class="muted">(${count(segment.contexts)})</span>`,
      cell: (row) => html`<${Estimate} found=${row.estimates.find((each) => each.segment === segment.name)} scale=${scale} />`,
    })),
  ];
  return html`<${Table} caption="Weighted reward a decision, with 95 % intervals of the model, averaged over ${count(found.contexts)} recent contexts (how many: in brackets)"
    columns=${columns} rows=${found.arms} id=${(row) => row.arm} />`;
}

function Estimate({ found, scale: [from, to] }) {
  if (!found || found.mean === null) return html`<span class="muted">–</span>`;
  return html`<span class="estimate">${number(found.mean)} <span class="muted">${number(found.low)} to ${number(found.high)}</span>
    <${Interval} low=${found.low} high=${found.high} at=${found.mean} from=${from} to=${to} /></span>`;
}
