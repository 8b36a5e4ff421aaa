// A value that several parts of a page watch: the key, the theme, whether the page refreshes.
import { useEffect, useState } from "./html.js";

/** @template T @param {T} value */
export function store(value) {
  const watching = new Set();
  return {
    get: () => value,
    set(next) {
      value = next;
      for (const tell of [...watching]) tell(next);
    },
    watch(tell) {
      watching.add(tell);
      return () => watching.delete(tell);
    },
  };
}

/** The value of now; the part is drawn again when it changes. */
export function useStore(watched) {
  const [value, set] = useState(watched.get());
  useEffect(() => {
    set(watched.get());
    return watched.watch((next) => set(() => next));
  }, [watched]);
  return value;
}
