// What stays on this device: the text of each homework, and what was right in it when it was last checked.

const KEY = "minigrad:1:";

export function load(page) {
  try {
    return JSON.parse(localStorage.getItem(KEY + page)) ?? {};
  } catch {
    return {};
  }
}

/** @returns whether it could be kept: a private window or a full disk say no. */
export function save(page, more) {
  try {
    localStorage.setItem(KEY + page, JSON.stringify({ ...load(page), ...more }));
    return true;
  } catch {
    return false;
  }
}
