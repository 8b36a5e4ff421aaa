// Fields of forms, each with its label and a hint that belongs to it.
import { html, useId, useState } from "../lib/html.js";

/** A number; while what is typed is none, the last one counts and the field says so. */
export function NumberField({ label, hint, value, change, min, max }) {
  const id = useId();
  const [typed, type] = useState(null); // what stands in the field while it is edited
  const input = (event) => {
    type(event.target.value);
    const found = Number(event.target.value);
    if (event.target.value.trim() && Number.isFinite(found)) change(found);
  };
  const bad = typed !== null && (!typed.trim() || !Number.isFinite(Number(typed)));
  return html`<div class="field"><label for=${id}>${label}</label>
    <input id=${id} type="number" step="any" min=${min} max=${max} value=${typed ?? value} onInput=${input} onBlur=${() => type(null)}
      aria-describedby="${id}-hint" aria-invalid=${bad} />
    <small id="${id}-hint">${bad ? "a number" : hint}</small></div>`;
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
