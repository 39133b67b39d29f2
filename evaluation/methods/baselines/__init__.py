"""Methods to compare with, one class each, found by name (`registry`)."""
