"""Structure-from-motion models: COLMAP and Bundler."""
