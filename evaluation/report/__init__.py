"""From the results of pairs to tables, figures and pages."""
