"""Numbers in, text out: pages, Markdown and figures."""
