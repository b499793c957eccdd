"""Whether one concept is one thing inside a network, whatever the language that names it: measures of sharing."""
