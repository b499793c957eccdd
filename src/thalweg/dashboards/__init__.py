"""Units of text in the formats of dashboards: SAEDashboard's JSON, and what Neuronpedia imports."""
