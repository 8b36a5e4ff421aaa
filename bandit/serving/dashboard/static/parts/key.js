// The viewer's key, asked for where the server wants one.
import { key } from "../lib/api.js";
import { html, useState } from "../lib/html.js";
import { Notice } from "./notice.js";

/** @param {{why?: string}} how */
export function KeyForm({ why = "" }) {
  const [typed, type] = useState("");
  const submit = (event) => {
    event.preventDefault();
    if (typed.trim()) key.set(typed.trim());
  };
  return html`<form class="narrow" onSubmit=${submit}>
    <h1>A key, please</h1>
    ${why && html`<${Notice} kind="bad" title="Not accepted.">${why}<//>`}
    <p>This server answers to keys. One of the role “read” sees everything, one of the role “admin” changes it, too.
      It is kept in this tab only, until you close it.</p>
    <label class="field">API key <input type="password" name="key" autocomplete="off" spellcheck=${false} value=${typed}
      onInput=${(event) => type(event.target.value)} /></label>
    <p class="buttons"><button class="primary" type="submit" disabled=${!typed.trim()}>Show the dashboard</button></p>
  </form>`;
}
