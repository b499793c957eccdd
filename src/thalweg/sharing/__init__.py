"""A run as a dataset on the Hugging Face hub: what is uploaded, the card that describes it, and fetching one."""
