"""`ucn doctor`: checks of the machine, the Ray cluster, storage and MLflow."""
