// A question before something is changed: what it changes, and for what cannot be undone the name typed again.
import { html, useEffect, useId, useRef, useState } from "../lib/html.js";
import { say } from "../lib/say.js";
import { Failure } from "./notice.js";

/**
 * @param {{title: string, action: string, danger?: string, children: any, act: () => Promise<any>,
 *   close: (done: boolean) => void}} how `danger` is the name to be typed; `close` puts the focus back itself
 */
export function Confirm({ title, action, danger = "", children, act, close }) {
  const frame = useRef(null);
  const label = useId();
  const [typed, type] = useState("");
  const [state, set] = useState({ busy: false, error: null });
  useEffect(() => {
    const before = document.activeElement;
    const dialog = frame.current;
    dialog.showModal();
    return () => {
      dialog.close();
      before?.focus?.();
    };
  }, []);
  const ready = !state.busy && (!danger || typed === danger);
  const submit = async (event) => {
    event.preventDefault();
    if (!ready) return;
    set({ busy: true, error: null });
    try {
      await act();
      say(`${title}: done.`);
      close(true);
    } catch (error) {
      say(`That did not work: ${error.message}`);
      set({ busy: false, error });
    }
  };
  return html`<dialog ref=${frame} aria-labelledby=${label} onCancel=${(event) => (event.preventDefault(), close(false))}>
    <form onSubmit=${submit}>
      <h2 id=${label}>${title}</h2>
      ${children}
      ${danger && html`<label class="field">Type <strong>${danger}</strong> to confirm
        <input value=${typed} onInput=${(event) => type(event.target.value)} autocomplete="off" spellcheck=${false} /></label>`}
      <${Failure} error=${state.error} what="this change" />
      <p class="buttons">
        <button type="button" onClick=${() => close(false)}>Cancel</button>
        <button type="submit" class=${danger ? "danger" : "primary"} disabled=${!ready}>${state.busy ? "…" : action}</button>
      </p>
    </form>
  </dialog>`;
}

/** What a dry run says that would change, each place with what was and will be. */
export function Changes({ found }) {
  if (found.creates) return html`<p>The experiment is new.</p>`;
  if (!found.changes.length) return html`<p>Nothing would change: it is so already.</p>`;
  return html`${found.starts_from_zero && html`<p class="notice warn"><strong>What was learned is left behind:</strong>
      a new generation starts from zero.</p>`}
    <ul class="changes">${found.changes.map((each) => html`<li key=${each.pointer}>
      <code>${each.pointer}</code>: ${"before" in each ? html`<del>${text(each.before)}</del> ` : ""}
      ${"after" in each ? html`→ <ins>${text(each.after)}</ins>` : "is removed"}</li>`)}</ul>`;
}

const LONGEST = 300;

function text(value) {
  const whole = typeof value === "string" ? value : JSON.stringify(value);
  return whole.length > LONGEST ? `${whole.slice(0, LONGEST)}…` : whole;
}
