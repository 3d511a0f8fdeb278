"""Files of a reconstruction that everybody's tools open: one file here per kind, `table.EXPORTS` lists them."""
