"""Reports: HTML pages, tables and SVG figures of results."""
