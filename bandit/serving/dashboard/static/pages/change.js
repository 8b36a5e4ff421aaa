// Change a live experiment: edit, see what would change, confirm. What is sent is only what differs, for this version.
import { ask, experiment } from "../lib/api.js";
import { html, useState } from "../lib/html.js";
import { link } from "../lib/route.js";
import { say } from "../lib/say.js";
import { Changes, Confirm } from "../parts/dialog.js";
import { NumberField } from "../parts/field.js";
import { Failure, Notice } from "../parts/notice.js";

export function Change({ document, again }) {
  const [edits, set] = useState({}); // by path, joined by a line end: names may have any other character
  const [base, keep] = useState(document); // the version that is edited, whatever comes meanwhile
  const [state, tell] = useState({ dry: null, error: null, done: "" });
  const restart = () => (set({}), keep(document), tell({ dry: null, error: null, done: "" }));
  if (base.version !== document.version && !Object.keys(edits).length) keep(document);
  const edit = (path, value) => set((was) => edited(was, path, value, valueAt(base, path)));
  const patch = patchOf(edits, base);
  const shares = sumOfShares(base, edits);
  const check = async (event) => {
    event.preventDefault();
    tell({ dry: null, error: null, done: "" });
    try {
      const dry = await ask(experiment(base.name), { method: "PATCH", query: { dry_run: true }, body: patch, version: base.version });
      tell({ dry, error: null, done: "" });
    } catch (error) {
      tell({ dry: null, error, done: "" });
      say(`Refused: ${error.message}`);
    }
  };
  const act = () => ask(experiment(base.name), { method: "PATCH", body: patch, version: base.version });
  const close = (done) => {
    tell({ dry: null, error: null, done: done ? "Changed." : "" });
    if (done) (set({}), again());
  };
  const stale = base.version !== document.version;
  const risky = patch.status === "paused" || state.dry?.starts_from_zero;
  return html`<form class="stack" onSubmit=${check}>
    ${stale && html`<${Notice} kind="warn" title="Somebody else changed it.">You edit version ${base.version}, in force is ${document.version}.
      <button type="button" onClick=${restart}>Begin again with version ${document.version}</button><//>`}
    <${State} base=${base} edits=${edits} edit=${edit} />
    <${Policy} title="Policy" path=${["policy"]} policy=${base.policy} edits=${edits} edit=${edit} />
    <${Weights} base=${base} edits=${edits} edit=${edit} />
    <${Slices} base=${base} edits=${edits} edit=${edit} sum=${shares} />
    <${Failure} error=${state.error} what="this change" />
    ${state.done && html`<${Notice} kind="good" title=${state.done}>It is in force from the next decision on; <a href=${link("audit", base.name)}>the audit log</a> has it.<//>`}
    <p class="buttons"><button type="button" onClick=${restart} disabled=${!Object.keys(edits).length}>Undo edits</button>
      <button class="primary" type="submit" disabled=${!Object.keys(edits).length}>Show what would change</button></p>
    <p class="muted">Arms are paused on <a href=${link("e", base.name, "arms")}>their own page</a>; all else of a document is changed by <code>PATCH</code>.</p>
  </form>
  ${state.dry && html`<${Confirm} title="Change ${base.name}?" action="Change it" danger=${risky ? base.name : ""} act=${act} close=${close}>
    <${Changes} found=${state.dry} />
    ${patch.status === "paused" && html`<p class="notice warn"><strong>No more decisions:</strong> ${base.fallback_arm ? `${base.fallback_arm} is answered to everybody, and nothing is logged` : "there is no fallback_arm, so every request is refused (409)"}.</p>`}<//>`}`;
}

const SEPARATOR = "\n";
const keyOf = (path) => path.join(SEPARATOR);

function valueAt(document, path) {
  return path.reduce((found, name) => (found === undefined || found === null ? undefined : found[name]), document);
}

/** The edits with one more; a value that is as it was is no edit. */
function edited(edits, path, value, was) {
  const { [keyOf(path)]: _, ...rest } = edits;
  return value === was ? rest : { ...rest, [keyOf(path)]: value };
}

/** A JSON merge patch of the edits. */
function patchOf(edits, base) {
  const patch = {};
  for (const [id, value] of Object.entries(edits)) {
    const path = id.split(SEPARATOR);
    const last = path.pop();
    let place = patch;
    for (const name of path) place = Object.hasOwn(place, name) ? place[name] : (place[name] = {});
    place[last] = value;
  }
  for (const [name, slice] of Object.entries(patch.slices ?? {})) {
    // a slice's policy replaces, so its type goes with it
    if (slice.policy) slice.policy = { ...base.slices[name].policy, ...slice.policy };
  }
  return patch;
}

/** What the shares add up to; null where one has the rest. */
function sumOfShares(base, edits) {
  const shares = Object.keys(base.slices ?? {}).map((name) => edits[keyOf(["slices", name, "share"])] ?? base.slices[name].share);
  return shares.some((share) => share === undefined) ? null : shares.reduce((sum, share) => sum + share, 0);
}

function State({ base, edits, edit }) {
  const value = edits.status ?? base.status ?? "active";
  return html`<fieldset><legend>Status</legend>${["active", "paused"].map((each) => html`<label class="check" key=${each}>
    <input type="radio" name="status" checked=${value === each} onChange=${() => edit(["status"], each)} /> ${each}</label>`)}</fieldset>`;
}

const TOLD = {
  alpha: "how many standard deviations of uncertainty count for an arm: more tries what is less known",
  explore: "share of decisions that is spread evenly over all arms, 0 to 1: what makes the log able to judge",
};

function Policy({ title, path, policy, edits, edit }) {
  const names = ["alpha", "explore"].filter((name) => typeof policy?.[name] === "number");
  if (!names.length) return null;
  return html`<fieldset><legend>${title}: ${policy.type}</legend>
    <div class="fields">${names.map((name) => html`<${NumberField} key=${name} label=${name} hint=${TOLD[name]} min=${0}
      max=${name === "explore" ? 1 : undefined} value=${edits[keyOf([...path, name])] ?? policy[name]} change=${(value) => edit([...path, name], value)} />`)}</div></fieldset>`;
}

function Weights({ base, edits, edit }) {
  return html`<fieldset><legend>Weights of rewards</legend><div class="fields">${Object.entries(base.rewards).map(([kind, spec]) => {
    const path = ["rewards", kind, "weight"];
    return html`<${NumberField} key=${kind} label=${kind} hint="what one unit counts for" value=${edits[keyOf(path)] ?? spec.weight ?? 1}
      change=${(value) => edit(path, value === (spec.weight ?? 1) ? spec.weight : value)} />`;
  })}</div></fieldset>`;
}

function Slices({ base, edits, edit, sum }) {
  const slices = Object.entries(base.slices ?? {});
  if (!slices.length) return html`<fieldset><legend>Slices</legend><p class="muted">There are none: everybody gets the policy above.</p></fieldset>`;
  const wrong = sum !== null && Math.abs(sum - 1) > 1e-9;
  return html`<fieldset><legend>Slices: shares of the users</legend>
    <div class="fields">${slices.filter(([, slice]) => slice.share !== undefined).map(([name, slice]) => html`<${NumberField} key=${name} label=${name}
      hint=${slice.policy ? `plays ${slice.policy.type}` : "plays the policy above"} min=${0} max=${1} value=${edits[keyOf(["slices", name, "share"])] ?? slice.share}
      change=${(value) => edit(["slices", name, "share"], value)} />`)}</div>
    <p class=${wrong ? "bad" : "muted"}>${sum === null ? "The slice without a share has the rest." : `Together ${Number(sum.toFixed(6))}${wrong ? ": it must be 1." : "."}`}</p>
    <p class="muted">Users keep their slice; only those whose part of the range changes hands move.</p></fieldset>
    ${slices.filter(([, slice]) => slice.policy).map(([name, slice]) => html`<${Policy} key=${name} title=${`Policy of ${name}`} path=${["slices", name, "policy"]}
      policy=${slice.policy} edits=${edits} edit=${edit} />`)}`;
}
