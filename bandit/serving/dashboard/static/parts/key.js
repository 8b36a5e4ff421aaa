// The viewer's key, asked for where the server wants one.
import { key } from "../lib/api.js";
import { html, useState } from "../lib/html.js";
import { Notice } from "./notice.js";

const PLAIN = /^[!-~]+$/; // what a header can carry

/** @param {{why?: string}} how */
export function KeyForm({ why = "" }) {
  const [typed, type] = useState("");
  const [odd, tell] = useState(false);
  const submit = (event) => {
    event.preventDefault();
    const given = typed.trim();
    tell(!PLAIN.test(given));
    if (PLAIN.test(given)) key.set(given);
  };
  return html`<form class="narrow" onSubmit=${submit}>
    <h1>A key, please</h1>
    ${odd && html`<${Notice} kind="bad" title="That is no key:">it has characters that no key has.<//>`}
    ${why && !odd && html`<${Notice} kind="bad" title="Not accepted.">${why}<//>`}
    <p>This server answers to keys. One of the role “read” sees everything, one of the role “admin” changes it, too.
      It is kept in this tab only, until you close it.</p>
    <label class="field">API key <input type="password" name="key" autocomplete="off" spellcheck=${false} value=${typed}
      onInput=${(event) => type(event.target.value)} /></label>
    <p class="buttons"><button class="primary" type="submit" disabled=${!typed.trim()}>Show the dashboard</button></p>
  </form>`;
}
