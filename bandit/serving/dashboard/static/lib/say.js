// What a screen reader hears without the focus being moved: what was done, and what went wrong. Figures are not read out.
import { route } from "./route.js";
import { store } from "./store.js";

export const said = store("");
route.watch(() => said.set("")); // it was of another page; what was done just now is said a moment later

export function say(text) {
  said.set("");
  setTimeout(() => said.set(text), 50); // the same words twice are heard twice
}
