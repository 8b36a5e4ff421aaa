// Tables with a caption; a wide one scrolls in a frame of its own, which the keyboard reaches.
import { html, useId } from "../lib/html.js";

/**
 * @param {{caption: string, columns: {name: string, cell: (row: any) => any, number?: boolean, head?: boolean}[],
 *   rows: any[], id: (row: any) => any, empty?: string, quiet?: boolean}} how `quiet`: the caption is for readers only
 */
export function Table({ caption, columns, rows, id, empty = "Nothing yet.", quiet = false }) {
  const label = useId();
  if (!rows.length) return html`<p class="muted">${empty}</p>`;
  return html`<div class="scroll" tabindex="0" role="region" aria-labelledby=${label}>
    <table>
      <caption id=${label} class=${quiet ? "unseen" : ""}><span>${caption}</span></caption>
      <thead><tr>${columns.map((c) => html`<th scope="col" class=${c.number ? "number" : ""}>${c.name}</th>`)}</tr></thead>
      <tbody>${rows.map((row) => html`<tr key=${id(row)}>${columns.map((c) => cell(c, row))}</tr>`)}</tbody>
    </table>
  </div>`;
}

function cell(column, row) {
  const shown = column.cell(row);
  if (column.head) return html`<th scope="row">${shown}</th>`;
  return html`<td class=${column.number ? "number" : ""}>${shown}</td>`;
}
