"""Sphinx's settings for the documentation: `python -m lectures.site.docs` writes the sources and calls Sphinx with this file."""

project = "minigrad"
copyright = "minigrad contributors, MIT licence"

extensions = ["myst_parser", "sphinx.ext.mathjax"]
root_doc = "index"
source_suffix = {".md": "markdown"}
exclude_patterns: list[str] = []

# Every reference must lead somewhere: our own to things (py:obj) are checked; the words of annotations, which Sphinx takes for classes, need not be.
nitpicky = True
nitpick_ignore_regex = [("py:(class|data|attr)", ".*")]
# An annotation names a class as its file does; two files may mean two things by it, and then the link is left out.
suppress_warnings = ["ref.python"]
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90
toc_object_entries_show_parents = "hide"
add_module_names = True

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
# "here:../a.html" is the file beside this page: something that Sphinx does not make.
myst_url_schemes = {"http": None, "https": None, "mailto": None, "here": {"url": "{{path}}", "classes": ["reference"]}}

html_theme = "furo"
html_title = "minigrad"
html_static_path = ["_static"]
html_css_files = ["docs.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_search_summary = False  # a page opened from a file may not read the others
html_theme_options = {"footer_icons": [], "top_of_page_buttons": []}
pygments_style = "xcode"  # these two have contrast enough
pygments_dark_style = "monokai"
# Plain code blocks are mostly shell and tables.
highlight_language = "none"

# The copy that `lectures.site.mathjax` has verified, beside the pages; no menu, which would load more.
mathjax_path = "tex-svg.js"
mathjax3_config = {"options": {"enableMenu": False}, "tex": {"packages": {"[-]": ["autoload", "require"]}}, "svg": {"fontCache": "global"}}
