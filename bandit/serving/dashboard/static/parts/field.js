// Fields of forms, each with its label and a hint that belongs to it.
import { html, useEffect, useId, useRef, useState } from "../lib/html.js";

/** The number that a text says, with a point or a decimal comma; NaN where it says none, or could be two: 1,000. */
export function numberOf(text) {
  const plain = text.trim();
  if (!plain || /^[+-]?[1-9]\d{0,2}(,\d{3})+$/.test(plain)) return NaN;
  return Number(/^[^.,]*,[^.,]*$/.test(plain) ? plain.replace(",", ".") : plain);
}

function faultOf(found, min = -Infinity, max = Infinity) {
  if (!Number.isFinite(found)) return "a number, such as 0.5; no commas between thousands";
  if (found < min) return `${min} or more`;
  return found > max ? `${max} or less` : "";
}

/**
 * A number. A field of the kind `number` would drop a decimal comma without a word: 0,5 would be 5. What is typed and is
 * no number stays, is said, and keeps its form from being sent; an emptied field is again as it was, or, if it is
 * `optional`, has no value.
 */
export function NumberField({ label, hint, value, change, min, max, step, optional, placeholder }) {
  const id = useId();
  const input = useRef(null);
  const [typed, type] = useState(null); // what stands in the field while it is edited
  const empty = typed !== null && !typed.trim();
  const fault = typed === null || (empty && optional) ? "" : faultOf(numberOf(typed), min, max);
  const take = (text) => {
    type(text);
    if (optional && !text.trim()) change(undefined);
    else if (!faultOf(numberOf(text), min, max)) change(numberOf(text));
  };
  const key = (event) => {
    const way = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (!step || !way || fault) return;
    event.preventDefault();
    take(String(Number((Number(value) + way * step).toPrecision(12))));
  };
  useEffect(() => input.current.setCustomValidity(fault), [fault]);
  const told = fault && value !== undefined ? `${fault}; until then ${value} counts` : fault || hint;
  return html`<div class="field"><label for=${id}>${label}</label>
    <input id=${id} ref=${input} inputmode="decimal" autocomplete="off" placeholder=${placeholder} value=${typed ?? value ?? ""}
      onInput=${(event) => take(event.target.value)} onKeyDown=${key} onBlur=${() => (empty || !fault) && type(null)}
      aria-describedby=${told ? `${id}-hint` : undefined} aria-invalid=${Boolean(fault)} />
    ${told && html`<small id="${id}-hint" class=${fault ? "bad" : undefined}>${told}</small>`}</div>`;
}

export function TextField({ label, hint, value, change, rows = 0, ...more }) {
  const id = useId();
  const input = (event) => change(event.target.value);
  const described = hint ? `${id}-hint` : undefined;
  return html`<div class="field"><label for=${id}>${label}</label>
    ${rows ? html`<textarea id=${id} rows=${rows} value=${value} onInput=${input} aria-describedby=${described} spellcheck=${false} ...${more}></textarea>`
      : html`<input id=${id} value=${value} onInput=${input} aria-describedby=${described} autocomplete="off" spellcheck=${false} ...${more} />`}
    ${hint && html`<small id=${described}>${hint}</small>`}</div>`;
}
