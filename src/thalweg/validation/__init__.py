"""The instrument's standing test: units whose truth is known, planted over a user's own stimuli and scored."""
