// CodeMirror with what a derivation needs: Python, the house's keys, and marks at lines that are wrong.
import { autocompletion, closeBrackets, closeBracketsKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { python } from "@codemirror/lang-python";
import { bracketMatching, HighlightStyle, indentOnInput, indentUnit, syntaxHighlighting } from "@codemirror/language";
import { lintGutter, setDiagnostics } from "@codemirror/lint";
import { highlightSelectionMatches, searchKeymap } from "@codemirror/search";
import { EditorState, Prec } from "@codemirror/state";
import { drawSelection, EditorView, highlightActiveLine, keymap, lineNumbers } from "@codemirror/view";
import { tags } from "@lezer/highlight";

// Colours are the page's own, so that light and dark come from one place.
const colours = HighlightStyle.define([
  { tag: [tags.keyword, tags.operatorKeyword, tags.controlKeyword, tags.definitionKeyword], color: "var(--keyword)", fontWeight: "600" },
  { tag: [tags.string, tags.docString], color: "var(--string)" },
  { tag: tags.comment, color: "var(--soft)", fontStyle: "italic" },
  { tag: [tags.number, tags.bool, tags.null], color: "var(--number)" },
  { tag: [tags.function(tags.definition(tags.variableName)), tags.definition(tags.function(tags.variableName))], color: "var(--accent)", fontWeight: "600" },
]);

export function create(parent, { text, label, changed, check }) {
  parent.replaceChildren();
  const view = new EditorView({
    parent,
    state: EditorState.create({
      doc: text,
      extensions: [
        lineNumbers(), history(), drawSelection(), indentOnInput(), bracketMatching(), closeBrackets(), autocompletion({ activateOnTyping: false }),
        highlightActiveLine(), highlightSelectionMatches(), python(), indentUnit.of("    "), syntaxHighlighting(colours), lintGutter(),
        EditorView.contentAttributes.of({ "aria-label": label, spellcheck: "false", autocapitalize: "off", autocorrect: "off" }),
        Prec.highest(keymap.of([{ key: "Mod-Enter", run: () => { check(); return true; } }])),
        // Tab moves on, as everywhere on the page; Ctrl-] and Ctrl-[ indent
        keymap.of([...closeBracketsKeymap, ...defaultKeymap, ...historyKeymap, ...searchKeymap]),
        EditorView.updateListener.of((update) => { if (update.docChanged) changed(); }),
      ],
    }),
  });
  const line = (number) => view.state.doc.line(Math.min(Math.max(1, number), view.state.doc.lines));
  return {
    get: () => view.state.doc.toString(),
    set: (text) => view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: text } }),
    mark(marks) {
      const found = marks.map(({ line: number, message, kind }) => {
        const { from, to, text } = line(number);
        return { from: from + text.length - text.trimStart().length, to, severity: kind, message };
      });
      view.dispatch(setDiagnostics(view.state, found.sort((a, b) => a.from - b.from)));
    },
    go(number) {
      view.dispatch({ selection: { anchor: line(number).to }, effects: EditorView.scrollIntoView(line(number).from, { y: "center" }) });
      view.focus();
    },
    focus: () => view.focus(),
  };
}
