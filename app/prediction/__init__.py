"""From a request to predictions: parsing, the models in memory, computing, answering."""
