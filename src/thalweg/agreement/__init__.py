"""How far an observer that answers single trials agrees with the others, unit by unit and model by model."""
