// Who looks: what the server says of the viewer's key, and so what is shown.
import { ApiError, ask, at, key } from "./api.js";
import { store } from "./store.js";

/** null: not known yet; `wanted`: a key is needed, and why; else what whoami answered. */
export const viewer = store(null);

const OPEN = { key: null, name: null, role: "admin", experiments: null, auth: false };

/** Ask who looks; a server without that address has no keys. */
export async function identify() {
  try {
    viewer.set(await ask(at("whoami")));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 401) viewer.set({ wanted: key.get() ? "This key is not known here, or was revoked." : "" });
    else if (error.notOffered) viewer.set(OPEN);
    else viewer.set({ failed: error });
  }
}

key.watch(() => identify());

/** The server refused the key in the middle of things: ask for another one. */
export function refused() {
  if (viewer.get() && !viewer.get().wanted) viewer.set({ wanted: "The key is not valid any more." });
}

export const mayRead = (who) => who?.role !== "write";
export const mayChange = (who) => who?.role === "admin";
