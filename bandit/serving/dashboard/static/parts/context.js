// A form for a context, made from an experiment's features.
import { html } from "../lib/html.js";
import { NumberField } from "./field.js";

/** What a feature is at first: what the document says of its middle. */
export function start(feature) {
  if (feature.type === "number") {
    if (feature.mean !== undefined && feature.mean !== null) return feature.log ? Number(Math.expm1(feature.mean).toPrecision(3)) : feature.mean;
    if (feature.transform) return feature.transform.edges[feature.transform.edges.length >> 1];
    if (feature.min !== undefined && feature.min !== null) return (feature.min + feature.max) / 2;
    return 0;
  }
  if (feature.type === "boolean") return false;
  if (feature.type === "category") return feature.levels[0];
  if (feature.type === "vector") return Array(feature.length).fill(0);
  return "";
}

/** The features that stand in a context: an interaction and random features are made of others. */
export const asked = (document) => document.features.filter((f) => f.name !== undefined && KNOWN.has(f.type));
const KNOWN = new Set(["number", "boolean", "category", "hashed", "vector"]);

export const startOf = (document) => Object.fromEntries(asked(document).map((feature) => [feature.name, start(feature)]));

const OTHER = "\u0000other"; // no level is so written

/** @param {{features: any[], context: object, change: (name: string, value: any) => void}} how */
export function ContextForm({ features, context, change }) {
  return html`<div class="fields">
    ${features.map((feature) => html`<${Field} key=${feature.name} feature=${feature} value=${context[feature.name]}
      change=${(value) => change(feature.name, value)} />`)}
  </div>`;
}

function Field({ feature, value, change }) {
  if (feature.type === "boolean") {
    return html`<label class="check"><input type="checkbox" checked=${value === true} onChange=${(e) => change(e.target.checked)} />
      ${feature.name}</label>`;
  }
  if (feature.type === "number") {
    const step = feature.scale ? Number((feature.scale / 4).toPrecision(1)) : 1;
    return html`<${NumberField} label=${feature.name} step=${step} value=${value} change=${change} />`;
  }
  if (feature.type === "category") return html`<${Level} feature=${feature} value=${value} change=${change} />`;
  if (feature.type === "vector") {
    return html`<label class="field">${feature.name} (${feature.length} numbers)<input value=${JSON.stringify(value)}
      onChange=${(e) => vector(e.target, change)} /></label>`;
  }
  return html`<label class="field">${feature.name}<input value=${value} onInput=${(e) => change(e.target.value)} /></label>`;
}

function Level({ feature, value, change }) {
  const other = feature.other !== false;
  const listed = feature.levels.includes(value);
  const pick = (chosen) => change(chosen === OTHER ? "something else" : chosen);
  return html`<label class="field">${feature.name}<select value=${listed ? value : OTHER} onChange=${(e) => pick(e.target.value)}>
    ${feature.levels.map((level) => html`<option key=${level} value=${level}>${level}</option>`)}
    ${other && html`<option value=${OTHER}>(any other)</option>`}
  </select></label>`;
}

/** Take a list that was typed; what is none stays there, and is said. */
function vector(input, change) {
  const found = list(input.value);
  input.setCustomValidity(found ? "" : "a list of numbers, such as [0, 0.5]");
  if (input.reportValidity()) change(found);
}

function list(text) {
  try {
    const found = JSON.parse(text);
    return Array.isArray(found) ? found : null;
  } catch {
    return null;
  }
}
