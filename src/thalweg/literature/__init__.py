"""The published literature under one rule: tables from papers, each with its source, their verdicts, and one page."""
