"""Model files, and segmenting images and volumes with models."""
