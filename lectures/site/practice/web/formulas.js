// MathJax without a menu and without extensions, which it would fetch while the page is read.
window.MathJax = {
  tex: { inlineMath: [["$", "$"], ["\\(", "\\)"]], displayMath: [["$$", "$$"], ["\\[", "\\]"]], packages: { "[-]": ["autoload", "require"] } },
  options: { enableMenu: false, skipHtmlTags: ["script", "noscript", "style", "textarea", "pre", "code", "svg"], ignoreHtmlClass: "bench|tape" },
  svg: { fontCache: "global" },
};
