// A plain text area with the same five verbs as the editor of editor/editor.js: get, set, mark, go, focus.

export function create(parent, { text, label, changed, check }) {
  const area = document.createElement("textarea");
  area.className = "plain";
  area.setAttribute("aria-label", label);
  area.spellcheck = false;
  area.autocapitalize = "off";
  area.autocomplete = "off";
  area.wrap = "off";
  area.value = text;
  area.addEventListener("input", changed);
  area.addEventListener("keydown", (e) => {
    if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) { e.preventDefault(); check(); }
    if (e.key === "Enter" && !e.ctrlKey && !e.metaKey && !e.shiftKey) { // the next line begins where this one does
      const line = area.value.slice(0, area.selectionStart).split("\n").pop();
      const indent = line.match(/^ */)[0] + (line.trimEnd().endsWith(":") ? "    " : "");
      if (indent) { e.preventDefault(); insert("\n" + indent); }
    }
  });
  // As if it were typed, so that it can be undone.
  const insert = (text) => { area.focus(); if (!document.execCommand("insertText", false, text)) { area.setRangeText(text, area.selectionStart, area.selectionEnd, "end"); changed(); } };
  parent.replaceChildren(area);
  return {
    get: () => area.value,
    set: (text) => { area.focus(); area.select(); insert(text); },
    mark: () => {}, // a text area cannot: the verdicts' links lead to the lines
    go(line) {
      const before = area.value.split("\n").slice(0, line - 1).join("\n").length + (line > 1);
      area.focus();
      area.setSelectionRange(before, before + area.value.split("\n")[line - 1]?.length);
      area.scrollTop = area.scrollHeight * Math.max(0, line - 4) / Math.max(1, area.value.split("\n").length);
    },
    focus: () => area.focus(),
  };
}
