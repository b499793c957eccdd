"""Two runs beside each other: what differs in how they were made, in their scores and in their verdicts."""
