"""Sources: readers of datasets, one for each dataset layout."""
