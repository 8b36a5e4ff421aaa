// A document while it is written: the fields that most need, and all else as JSON beside its feature or kind.
import { html } from "../lib/html.js";
import { NumberField, TextField } from "./field.js";
import { KNOBS, POLICIES, fieldOf, knobsOf } from "./knobs.js";

/** A form's fields from a document; what the form has no field for is kept. */
export function draftOf(document) {
  const { name, arms, features, rewards, policy, slices, ...more } = document;
  return {
    name: name ?? "",
    arms: (arms ?? []).map((arm) => (typeof arm === "string" ? arm : arm.id)).join("\n"),
    armsGiven: arms ?? [], // payloads and conditions of a proposal
    features: (features ?? []).map(rowOf),
    rewards: Object.entries(rewards ?? { click: {} }).map(([kind, spec]) => ({ name: kind, weight: spec.weight ?? 1, low: spec.range?.[0] ?? 0, high: spec.range?.[1] ?? 1, more: spec })),
    policy: policyOf(policy?.type ?? "linucb", policy),
    random: slices?.random?.share ?? 0.1,
    more,
  };
}

/** A policy of that type, with what another one says of its numbers and challengers; one that no form can write stays as it is. */
function policyOf(type, other) {
  const knobs = Object.entries(POLICIES[type]?.knobs ?? {}).map(([name, usual]) => [name, other?.[name] ?? usual]);
  const more = other?.challengers ? { challengers: other.challengers } : {};
  return POLICIES[type] ? { type, ...Object.fromEntries(knobs), ...more } : other;
}

const SIMPLE = ["number", "boolean", "category"];

function rowOf(feature) {
  const { name, type, ...more } = feature;
  const { mean, scale, ...numbers } = more;
  const { levels, ...levelled } = more;
  if (type === "number" && mean !== undefined) return { name, type, mean, scale, levels: "", more: text(numbers) };
  if (type === "category") return { name, type, mean: 0, scale: 1, levels: levels.join(", "), more: text(levelled), given: levels };
  return { name: name ?? "", type, mean: "", scale: "", levels: "", more: text(more) };
}

const text = (more) => (Object.keys(more).length ? JSON.stringify(more) : "");

/**
 * The document of a draft.
 * @throws {Error} which says what is missing
 */
export function documentOf(draft) {
  if (!/^[a-z0-9][a-z0-9._-]{0,63}$/.test(draft.name)) throw new Error("a name of small letters, digits, dots, dashes and underscores.");
  const given = new Map(draft.armsGiven.map((arm) => [typeof arm === "string" ? arm : arm.id, arm]));
  const arms = draft.arms.split("\n").map((arm) => arm.trim()).filter(Boolean);
  if (arms.length < 2) throw new Error("at least two arms.");
  if (!draft.rewards.length) throw new Error("a reward.");
  const random = Number(draft.random);
  return {
    ...draft.more,
    arms: arms.map((arm) => given.get(arm) ?? arm),
    features: draft.features.map(featureOf),
    rewards: Object.fromEntries(draft.rewards.map(rewardOf)),
    policy: draft.policy,
    ...(random > 0 ? { slices: { learned: { share: Number((1 - random).toFixed(6)) }, random: { share: random, policy: { type: "uniform" } } } } : {}),
  };
}

function featureOf(row) {
  if (!row.name && SIMPLE.includes(row.type)) throw new Error("a name for each feature.");
  let more;
  try {
    more = row.more.trim() ? JSON.parse(row.more) : {};
  } catch {
    throw new Error(`JSON in “more” of the feature ${row.name}.`);
  }
  const own = row.name ? { name: row.name, type: row.type } : { type: row.type };
  if (row.type === "number" && row.mean !== "") return { ...own, mean: Number(row.mean), scale: Number(row.scale), ...more };
  if (row.type !== "category") return { ...own, ...more };
  const levels = row.given?.join(", ") === row.levels ? row.given : row.levels.split(",").map((level) => level.trim()).filter(Boolean);
  if (!levels.length) throw new Error(`levels for the category ${row.name}.`);
  return { ...own, levels, ...more };
}

function rewardOf(row) {
  if (!row.name) throw new Error("a name for each reward.");
  return [row.name, { ...row.more, weight: Number(row.weight), range: [Number(row.low), Number(row.high)] }];
}

/** @param {{draft: object, change: (fields: object) => void}} how */
export function Draft({ draft, change }) {
  const field = (name) => (value) => change({ [name]: value });
  return html`<fieldset><legend>Name and arms</legend>
      <${TextField} label="Name" value=${draft.name} change=${field("name")} hint="small letters, digits, dots, dashes, underscores" />
      <${TextField} label="Arms, one a line" rows=${Math.min(12, Math.max(3, draft.arms.split("\n").length))} value=${draft.arms} change=${field("arms")} hint="what there is to choose from, by ids of your own" /></fieldset>
    <${Rows} title="Features: what is known of a visitor" one="feature" rows=${draft.features} change=${field("features")} Row=${Feature}
      fresh=${{ name: "", type: "number", mean: 0, scale: 1, levels: "", more: "" }} />
    <${Rows} title="Rewards: what is reported back" one="reward" rows=${draft.rewards} change=${field("rewards")} Row=${Reward} fresh=${{ name: "", weight: 1, low: 0, high: 1, more: {} }} />
    <fieldset><legend>How it chooses</legend><div class="fields">
      <${Policy} policy=${draft.policy} change=${field("policy")} />
      <${NumberField} label="Random slice" hint="share of users for whom arms are chosen evenly, to measure the lift; 0: none" min=${0} max=${1} value=${draft.random} change=${field("random")} />
    </div></fieldset>`;
}

function Policy({ policy, change }) {
  const types = POLICIES[policy.type] ? Object.keys(POLICIES) : [policy.type, ...Object.keys(POLICIES)];
  return html`<div class="field"><label for="policy">Policy</label>
      <select id="policy" aria-describedby="policy-told" value=${policy.type} onChange=${(event) => change(policyOf(event.target.value, policy))}>
        ${types.map((type) => html`<option key=${type}>${type}</option>`)}</select>
      <small id="policy-told">${POLICIES[policy.type]?.told ?? "as it was proposed"}</small></div>
    ${knobsOf(policy).map((name) => html`<${NumberField} key=${name} label=${name} hint=${KNOBS[name]?.told}
      ...${fieldOf(name, policy[name], (value) => change({ ...policy, [name]: value }))} />`)}`;
}

function Rows({ title, one, rows, change, Row, fresh }) {
  const put = (i, fields) => change(rows.map((row, at) => (at === i ? { ...row, ...fields } : row)));
  return html`<fieldset><legend>${title}</legend>
    ${rows.map((row, i) => html`<div class="row" role="group" aria-label="${one} ${i + 1}" key=${i}><${Row} row=${row} put=${(fields) => put(i, fields)} />
      <button type="button" onClick=${() => change(rows.filter((_, at) => at !== i))}>Remove<span class="unseen"> ${one} ${row.name}</span></button></div>`)}
    <p class="buttons"><button type="button" onClick=${() => change([...rows, fresh])}>Add a ${one}</button></p></fieldset>`;
}

function Feature({ row, put }) {
  const types = SIMPLE.includes(row.type) ? SIMPLE : [...SIMPLE, row.type];
  const field = (name) => (value) => put({ [name]: value });
  return html`<${TextField} label="Name" value=${row.name} change=${field("name")} />
    <label class="field">Type <select value=${row.type} onChange=${(event) => put({ type: event.target.value })}>${types.map((type) => html`<option key=${type}>${type}</option>`)}</select></label>
    ${row.type === "number" && row.mean !== "" && html`<${NumberField} label="Mean" hint="subtracted" value=${row.mean} change=${field("mean")} />
      <${NumberField} label="Scale" hint="then divided by it" value=${row.scale} change=${field("scale")} />`}
    ${row.type === "category" && html`<${TextField} label="Levels" hint="separated by commas" value=${row.levels} change=${field("levels")} />`}
    <${TextField} label="More" hint="JSON; most need none" value=${row.more} change=${field("more")} />`;
}

function Reward({ row, put }) {
  return html`<${TextField} label="Name" hint="the event that is sent" value=${row.name} change=${(name) => put({ name })} />
    <${NumberField} label="Weight" hint="what one unit counts for" value=${row.weight} change=${(weight) => put({ weight })} />
    <${NumberField} label="From" hint="least of a decision" value=${row.low} change=${(low) => put({ low })} />
    <${NumberField} label="To" hint="most of a decision" value=${row.high} change=${(high) => put({ high })} />`;
}
