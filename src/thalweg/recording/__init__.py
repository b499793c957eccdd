"""One pass over stimuli that keeps of every unit what measures need."""
