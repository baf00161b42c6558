"""Publishing: claim atlas and website, made from committed records and reports."""
