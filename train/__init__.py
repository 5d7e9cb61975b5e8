"""The fine-tuning pipeline, run from a clone: ``python -m train CONFIG [section.key=value …]``."""
