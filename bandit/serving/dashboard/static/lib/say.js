// What a screen reader hears without the focus being moved: what was done, and what went wrong. Figures are not read out.
import { store } from "./store.js";

export const said = store("");

export function say(text) {
  said.set("");
  setTimeout(() => said.set(text), 50); // the same words twice are heard twice
}
