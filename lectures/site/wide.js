// What is wider than its column scrolls by itself: a formula in a line of text gets a line of its own for that, and the keyboard reaches what scrolls.
const boxes = () => document.querySelectorAll(".scrolls, pre, mjx-container");

function fit() {
  for (const formula of document.querySelectorAll("mjx-container:not([display])")) {
    formula.classList.remove("wide");
    const column = formula.closest("p, li, td, th, h1, h2, h3, blockquote, summary, a");
    const svg = formula.querySelector("svg");
    if (column && svg && svg.getBoundingClientRect().width > column.clientWidth && column.clientWidth) formula.classList.add("wide");
  }
  for (const box of boxes()) {
    if (box.scrollWidth > box.clientWidth + 1 && box.clientWidth) box.tabIndex = 0;
    else if (box.tabIndex === 0) box.removeAttribute("tabindex");
  }
}

addEventListener("resize", fit);
MathJax.startup.promise.then(fit);
