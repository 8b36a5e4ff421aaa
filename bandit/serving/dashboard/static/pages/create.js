// Make an experiment: from a form, or from a sample of data of which the server proposes the features.
import { ask, at, experiment } from "../lib/api.js";
import { html, useState } from "../lib/html.js";
import { go } from "../lib/route.js";
import { say } from "../lib/say.js";
import { Changes, Confirm } from "../parts/dialog.js";
import { Draft, documentOf, draftOf } from "../parts/draft.js";
import { Failure, Notice } from "../parts/notice.js";
import { TextField } from "../parts/field.js";
import { Table } from "../parts/table.js";

const LARGEST = 300_000; // characters of a sample, so that any of them fit into a body; more rows tell hardly more

export function Create() {
  const [draft, set] = useState(() => draftOf({}));
  const [sample, keep] = useState(null); // its rows, what columns are for as far as the viewer said, and the proposal
  const [state, tell] = useState({ dry: null, error: null, busy: false });
  const change = (fields) => set((was) => ({ ...was, ...fields }));
  const taken = (csv, roles, found) => {
    keep({ csv, roles, found });
    set((was) => ({ ...draftOf(found.document), name: was.name, arms: draftOf(found.document).arms || was.arms }));
    say("Features are proposed below.");
  };
  let problem = "";
  let document = null;
  try {
    document = documentOf(draft);
  } catch (error) {
    problem = error.message;
  }
  const check = async (event) => {
    event.preventDefault();
    if (problem) return say(problem);
    tell({ dry: null, error: null, busy: true });
    try {
      const dry = await ask(experiment(draft.name), { method: "PUT", query: { dry_run: true }, body: document });
      tell({ dry, error: null, busy: false });
    } catch (error) {
      tell({ dry: null, error, busy: false });
      say(`Refused: ${error.message}`);
    }
    return undefined;
  };
  const act = () => ask(experiment(draft.name), { method: "PUT", body: document, fresh: true });
  const close = (done) => (tell({ dry: null, error: null, busy: false }), done && go("e", draft.name));
  const exists = state.dry && !state.dry.creates;
  return html`<h1>New experiment</h1>
    <${Sample} taken=${taken} />
    ${sample && html`<${Inferred} sample=${sample} taken=${taken} />`}
    <form class="stack" onSubmit=${check}>
      <${Draft} draft=${draft} change=${change} />
      ${problem && html`<p class="muted" id="problem">Still missing: ${problem}</p>`}
      <${Failure} error=${state.error} what="this experiment" />
      ${exists && html`<${Notice} kind="bad" title="There is one of that name already.">Choose another name; that one is changed on its own pages.<//>`}
      <p class="buttons"><button class="primary" type="submit" disabled=${state.busy || Boolean(problem)} aria-describedby=${problem ? "problem" : undefined}>Check it</button></p>
    </form>
    ${state.dry?.creates && html`<${Confirm} title="Create ${draft.name}?" action="Create it" act=${act} close=${close}>
      <${Changes} found=${state.dry} /><details open><summary>Its document</summary>
      <pre tabindex="0" aria-label="The document">${JSON.stringify(document, null, 2)}</pre></details><//>`}`;
}

/** [the text of a file, what to know of it]: what is not UTF-8 is what old spreadsheets write, and that is said. */
function decoded(bytes) {
  const mark = { "255,254": "utf-16le", "254,255": "utf-16be" }[bytes.slice(0, 2).join()];
  if (mark) return [new TextDecoder(mark).decode(bytes), ""];
  try {
    return [new TextDecoder("utf-8", { fatal: true }).decode(bytes, { stream: true }), ""];
  } catch {
    return [new TextDecoder("windows-1252").decode(bytes), "The file is not UTF-8: it was read as Windows-1252, so look at its letters. "];
  }
}

function Sample({ taken }) {
  const [text, type] = useState("");
  const [state, tell] = useState({ error: null, busy: false, note: "" });
  const send = async (csv, read = "") => {
    const cut = csv.length > LARGEST;
    const sample = cut ? csv.slice(0, csv.lastIndexOf("\n", LARGEST) + 1) : csv;
    tell({ error: null, busy: true, note: read });
    try {
      taken(sample, {}, await inferred(sample, {}));
      tell({ error: null, busy: false, note: `${read}${cut ? "Only the first 300,000 characters were read. " : ""}` });
    } catch (error) {
      tell({ error, busy: false, note: "" });
      say(`That did not work: ${error.message}`);
    }
  };
  const file = async (event) => {
    const [chosen] = event.target.files;
    if (!chosen) return;
    const [text, note] = decoded(new Uint8Array(await chosen.slice(0, 4 * LARGEST).arrayBuffer()));
    send(text, note);
  };
  const submit = (event) => (event.preventDefault(), send(text));
  return html`<details class="panel"><summary>Begin with a sample of your data (CSV)</summary>
    <form class="stack" onSubmit=${submit}>
      <p class="muted">With a header, one row for each visit. The server reads it, proposes arms, features and rewards, and keeps none of it.</p>
      <label class="field">A file <input type="file" accept=".csv,text/csv,text/plain" onChange=${file} /></label>
      <${TextField} label="Or paste rows" rows=${5} value=${text} change=${type} />
      <${Failure} error=${state.error} what="features from a sample" />
      <p class="buttons"><span class="muted">${state.note}</span><button type="submit" disabled=${!text.trim() || state.busy}>${state.busy ? "…" : "Propose features"}</button></p>
    </form></details>`;
}

const inferred = (csv, roles) => ask(at("documents", "infer"), { method: "POST", body: { csv, roles } });

const ROLES = ["feature", "arm", "reward", "propensity", "time", "user", "decision_id", "position", "dropped"];

function Inferred({ sample, taken }) {
  const { csv, roles, found } = sample;
  const [error, tell] = useState(null);
  const assign = async (column, role) => {
    const all = { ...roles, [column]: role };
    try {
      taken(csv, all, await inferred(csv, all));
      tell(null);
    } catch (refused) {
      tell(refused);
    }
  };
  const choice = (row) => html`<select aria-label="What ${row.name} is" value=${row.role} onChange=${(event) => assign(row.name, event.target.value)}>
    ${[...new Set([...ROLES, row.role])].map((role) => html`<option key=${role}>${role}</option>`)}</select>`;
  const columns = [
    { name: "Column", head: true, cell: (row) => row.name },
    { name: "Taken as", cell: choice },
    { name: "Feature", cell: (row) => (row.feature ? row.feature.type : "–") },
    { name: "Why", cell: (row) => row.why },
  ];
  return html`<section class="panel" aria-labelledby="inferred"><h2 id="inferred">What the sample says</h2>
    ${(found.warnings ?? []).map((text) => html`<${Notice} key=${text} kind="warn" title="Mind:">${text}<//>`)}
    <${Failure} error=${error} what="features from a sample" />
    <${Table} caption="Its columns, and what is made of them; everything can be edited below" columns=${columns} rows=${found.columns} id=${(row) => row.name} /></section>`;
}
