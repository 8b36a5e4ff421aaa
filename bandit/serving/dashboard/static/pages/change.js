// Change a live experiment: edit, see what would change, confirm. What is sent is only what differs, for this version.
import { ask, experiment } from "../lib/api.js";
import { html, useState } from "../lib/html.js";
import { link } from "../lib/route.js";
import { say } from "../lib/say.js";
import { Changes, Confirm } from "../parts/dialog.js";
import { NumberField } from "../parts/field.js";
import { KNOBS, fieldOf, knobsOf } from "../parts/knobs.js";
import { Failure, Notice } from "../parts/notice.js";

export function Change({ document, again }) {
  const [edits, set] = useState({}); // by path, joined by a line end: names may have any other character
  const [base, keep] = useState(document); // the version that is edited, whatever comes meanwhile
  const [state, tell] = useState({ dry: null, error: null, done: "" });
  const [round, turn] = useState(0); // counts up when fields are to forget what is typed in them
  const rebase = (kept) => (set(kept), keep(document), turn(round + 1), tell({ dry: null, error: null, done: "" }));
  if (base.version !== document.version && !Object.keys(edits).length) keep(document);
  const edit = (path, value) => set((was) => edited(was, path, value, valueAt(base, path)));
  const patch = patchOf(edits, base);
  const shares = sumOfShares(base, edits);
  const send = async (query) => {
    try {
      return await ask(experiment(base.name), { method: "PATCH", query, body: patch, version: base.version });
    } catch (error) {
      if (error.code === "precondition_failed") again(); // the version of now is shown at once
      throw error;
    }
  };
  const check = async (event) => {
    event.preventDefault();
    tell({ dry: null, error: null, done: "" });
    try {
      tell({ dry: await send({ dry_run: true }), error: null, done: "" });
    } catch (error) {
      tell({ dry: null, error, done: "" });
      say(`Refused: ${error.message}`);
    }
  };
  const close = (done) => {
    tell({ dry: null, error: null, done: done ? "Changed." : "" });
    if (done) (set({}), again());
  };
  const stale = base.version !== document.version;
  const risky = patch.status === "paused" || state.dry?.starts_from_zero;
  return html`<form class="stack" onSubmit=${check} key=${round}>
    <${State} base=${base} edits=${edits} edit=${edit} />
    <${Policy} title="Policy" path=${["policy"]} policy=${base.policy} edits=${edits} edit=${edit} />
    <${Weights} base=${base} edits=${edits} edit=${edit} />
    <${Slices} base=${base} edits=${edits} edit=${edit} sum=${shares} />
    ${stale ? html`<${Stale} from=${base.version} to=${document.version} keep=${() => rebase(rest(edits, document))} drop=${() => rebase({})} />`
      : html`<${Failure} error=${state.error} what="this change" />`}
    ${state.done && html`<${Notice} kind="good" title=${state.done}>It is in force from the next decision on; <a href=${link("audit", base.name)}>the audit log</a> has it.<//>`}
    <p class="buttons"><button type="button" onClick=${() => rebase({})} disabled=${!Object.keys(edits).length}>Undo edits</button>
      <button class="primary" type="submit" disabled=${stale || !Object.keys(edits).length}>Show what would change</button></p>
    <p class="muted">Arms are paused on <a href=${link("e", base.name, "arms")}>their own page</a>; all else of a document is changed by <code>PATCH</code>.</p>
  </form>
  ${state.dry && html`<${Confirm} title="Change ${base.name}?" action="Change it" danger=${risky ? base.name : ""} act=${() => send({})} close=${close}>
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

/** The edits that are still some over another version, which may not have their places any more. */
function rest(edits, document) {
  const over = ([id, value]) => {
    const path = id.split(SEPARATOR);
    return valueAt(document, path.slice(0, -1)) !== undefined && valueAt(document, path) !== value;
  };
  return Object.fromEntries(Object.entries(edits).filter(over));
}

function Stale({ from, to, keep, drop }) {
  return html`<${Notice} kind="bad" title="Somebody else changed it meanwhile.">You edit version ${from}; in force is version ${to}.
    Your edits are not in force.
    <span class="buttons"><button type="button" onClick=${drop}>Drop my edits</button>
      <button type="button" onClick=${keep}>Keep my edits over version ${to}</button></span><//>`;
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

function Policy({ title, path, policy, edits, edit }) {
  const names = knobsOf(policy);
  if (!names.length) return null;
  return html`<fieldset><legend>${title}: ${policy.type}</legend>
    <div class="fields">${names.map((name) => html`<${NumberField} key=${name} label=${name} hint=${KNOBS[name]?.told}
      ...${fieldOf(name, edits[keyOf([...path, name])] ?? policy[name], (value) => edit([...path, name], value))} />`)}</div></fieldset>`;
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
