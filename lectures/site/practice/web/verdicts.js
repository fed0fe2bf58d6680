// The verdicts as a table, in words as well as in colours, and the tape with what they say.

const MARKS = { right: "✓", rounding: "✓", "not implemented": "·" };

/** An element with attributes and children; text is never read as HTML. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) name.startsWith("on") ? made.addEventListener(name.slice(2), value) : made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/**
 * @param table   the element that holds the verdicts
 * @param report  from the checker
 * @param go      leads to where a line stands in the text
 * @param show    shows a line's route on the tape; null where there is none to show
 */
export function tabulate(table, report, { go, show }) {
  const rows = report.lines.map((line) => {
    const mark = MARKS[line.verdict] ?? "✗", kind = line.good ? "right" : line.verdict === "not implemented" ? "open" : "wrong";
    const name = element("th", { scope: "row", role: "rowheader" }, line.at?.line ? element("button", { type: "button", class: "link", onclick: () => go(line) }, line.line) : line.line);
    const verdict = element("td", { class: `verdict ${kind}`, role: "cell" }, element("span", { "aria-hidden": "true" }, `${mark} `), kind === "open" ? "not written" : line.verdict,
      ...(line.code && kind !== "open" ? [element("small", {}, line.code)] : []));
    const said = element("td", { class: "said", role: "cell" }, kind === "open" && /is not written yet|your turn/.test(line.text) ? "" : line.text);
    if (line.ways?.length && !line.good) said.append(" ", element("button", { type: "button", class: "link route", onclick: () => show(line) }, "show it on the tape"));
    return element("tr", { class: kind, "data-line": line.line, role: "row" }, name, verdict, element("td", { class: "points", role: "cell" }, `${line.earned}/${line.points}`), said);
  });
  table.replaceChildren(...rows);
}

/** One sentence for those who hear the page. */
export function summary(report) {
  if (report.lines.length === 0 || report.status !== "ok" && report.status !== "blank") return report.message ?? "";
  const wrong = report.lines.filter((line) => !line.good && line.verdict !== "not implemented");
  const right = report.lines.filter((line) => line.good).length;
  const first = wrong[0];
  return `${right} of ${report.lines.length} lines are right, ${report.earned} of ${report.points} points.` + (first ? ` ${first.line} is ${first.verdict}: ${first.text}` : "");
}

const KINDS = ["mg-missing", "mg-wrong", "mg-right", "mg-marked"];

/** Show on the tape what a report says: the verdict on each value that has a line, and the ways of one line; `line` null: of none. */
export function light(tape, report, targets, line) {
  for (const part of tape.querySelectorAll(".mg-box, .mg-edge")) part.classList.remove(...KINDS);
  for (const svg of tape.querySelectorAll(".mg-tape")) svg.classList.toggle("mg-lit", Boolean(line?.ways?.length));
  const all = (selector, ...names) => { for (const part of tape.querySelectorAll(selector)) part.classList.add(...names); };
  for (const { line: name, verdict, good } of report.lines) {
    const target = targets[name] ?? name.replace(/^d_/, "");
    if (verdict !== "not implemented") all(`.mg-box[data-name="${CSS.escape(target)}"]`, good ? "mg-right" : "mg-wrong", "mg-marked");
  }
  for (const { kind, lines, edges, marked } of line?.ways ?? []) {
    for (const box of lines) for (const part of tape.querySelectorAll(`.mg-box[data-line="${box}"]`)) part.classList.remove(...KINDS);
    for (const box of lines) all(`.mg-box[data-line="${box}"]`, `mg-${kind}`, ...(marked.includes(box) ? ["mg-marked"] : []));
    for (const [a, b] of edges) all(`.mg-edge[data-from="${a}"][data-to="${b}"]`, `mg-${kind}`);
  }
  for (const edge of tape.querySelectorAll(".mg-edge:is(.mg-missing, .mg-wrong)")) edge.parentNode.append(edge); // above the others
}

const TAGS = ["svg", "g", "path", "rect", "circle", "line", "text", "tspan", "title", "desc", "defs", "marker", "use", "div"];
const ATTRIBUTES = /^(class|id|role|aria-[a-z]+|data-[a-z]+|viewBox|width|height|x|y|dx|dy|x1|y1|x2|y2|cx|cy|r|rx|ry|d|transform|font-size|refX|refY|orient|markerWidth|markerHeight|markerUnits|textLength|lengthAdjust|tabindex)$/;

/** A drawing that came out of the worker, where anybody's text has run: only shapes and words of it, no style, link or program. */
export function drawing(text) {
  const copy = (node) => {
    if (node.nodeType === Node.TEXT_NODE) return document.createTextNode(node.data);
    if (node.nodeType !== Node.ELEMENT_NODE || !TAGS.includes(node.localName)) return document.createDocumentFragment();
    const made = document.createElementNS(node.namespaceURI, node.localName);
    for (const { name, value } of node.attributes) {
      const inside = name === "href" ? node.localName === "use" && /^#[\w-]+$/.test(value) : ATTRIBUTES.test(name) && !value.includes("url(");
      if (inside) made.setAttribute(name, value);
    }
    made.append(...[...node.childNodes].map(copy));
    return made;
  };
  return [...new DOMParser().parseFromString(text, "text/html").body.childNodes].map(copy);
}
