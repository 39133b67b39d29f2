"""One module a dataset: the only places that know a dataset's layout."""
