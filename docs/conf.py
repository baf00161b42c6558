"""How Sphinx builds the website; `make site` calls it on pages made from the reports."""

project = "Learning without backpropagation"
author = "The authors of this collection"
copyright = author  # noqa: A001 (Sphinx's name)
language = "en"

extensions = ["myst_nb", "sphinx-mathjax-offline"]
nb_execution_mode = "off"  # reports are shown as they were recorded
nb_ipywidgets_js = {}  # no report has widgets, and their scripts come from a network
nb_render_text_lexer = "none"
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_dmath_double_inline = True
myst_heading_anchors = 0
suppress_warnings = [
    "myst.header",  # a card begins with a heading of the third level
    "misc.highlighting_failure",  # %magic of IPython
]

html_theme = "pydata_sphinx_theme"
html_title = project
html_static_path = ["static"]
html_extra_path = ["extra"]
html_favicon = "static/favicon.svg"
html_context = {"default_mode": "auto"}  # light or dark as the reader's system is
html_css_files = ["site.css"]
html_js_files = [("site.js", {"defer": "defer"})]
html_show_sourcelink = False
html_copy_source = False
html_domain_indices = False
html_sidebars = {"index": [], "overview": [], "atlas": [], "papers/championship": []}
html_theme_options = {
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 6,
    "show_toc_level": 1,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": {
        "**": ["page-toc"],
        "index": [],
        "overview": [],
        "atlas": [],
    },
    "back_to_top_button": False,
}
