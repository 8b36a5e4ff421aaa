// How much one slice earns more than another, with the confidence sequence that says whether that is real.
import { experiment } from "../lib/api.js";
import { between, count, dayTime, number, percent, signed } from "../lib/format.js";
import { html } from "../lib/html.js";
import { Interval, scaleOf } from "./interval.js";
import { Notice } from "./notice.js";
import { Table } from "./table.js";
import { WorkedOut } from "./worked.js";

export function Lift({ document }) {
  if (!document.slices && !document.shadow) {
    return html`<section class="panel" aria-labelledby="lift"><h3 id="lift">Lift</h3><p class="muted">This experiment has no slices, so nothing
      is compared. Give a share of the users a slice that chooses evenly, and what learning earns is measured against it.</p></section>`;
  }
  return html`<${WorkedOut} path=${experiment(document.name, "evaluation")} about=${document.version} title="Lift" id="lift" what="the lift"
    tell=${(found) => found.lift?.sentence ?? found.note}>${(found) => html`<${Found} found=${found} />`}<//>`;
}

const plus = (share) => `${share > 0 ? "+" : ""}${percent(share)}`;
const relative = (row) => (row.relative === null ? "–" : `${plus(row.relative)} (${plus(row.relative_low)} to ${plus(row.relative_high)})`);

/** On a scale of its own: kinds have units of their own. */
function Drawn({ row }) {
  const [from, to] = scaleOf([row]);
  return html`<${Interval} low=${row.low} high=${row.high} at=${row.value} from=${from} to=${to} />`;
}

function Found({ found }) {
  const { lift } = found;
  if (!lift) return html`<p>${found.note || "Not enough data yet."}</p>`;
  const rows = [{ ...lift.effect, kind: "all, weighted" }, ...lift.kinds];
  const columns = [
    { name: "Reward", head: true, cell: (row) => row.kind },
    { name: lift.slice, number: true, cell: (row) => number(row.mean) },
    { name: lift.baseline, number: true, cell: (row) => number(row.baseline) },
    { name: "Difference", number: true, cell: (row) => signed(row.value) },
    { name: "Its confidence sequence", number: true, cell: (row) => between(row.low, row.high) },
    { name: "", cell: (row) => html`<${Drawn} row=${row} />` },
    { name: "Relative", number: true, cell: relative },
    { name: "Come by now", number: true, cell: (row) => percent(row.matured) },
  ];
  return html`${lift.alarm && html`<${Notice} kind="bad" title="Do not trust this:">${lift.alarm}<//>`}
    <p class="sentence lead">${lift.sentence}</p>
    <${Table} caption="${lift.slice} against ${lift.baseline}, a decision; ${percent(lift.confidence)} confidence sequences: they hold however often you look"
      columns=${columns} rows=${rows} id=${(row) => row.kind} />
    <p class="muted">From ${count(lift.decisions)} decisions of ${count(lift.users)} users${lift.cut ? ", the newest; older ones were not read" : ""}.</p>
    ${lift.changes.length > 0 && html`<details><summary>Changed meanwhile: ${lift.changes.length}</summary>
      <ul>${lift.changes.map((each) => html`<li>${dayTime(each.time)}: ${each.what}</li>`)}</ul></details>`}`;
}
