"""Training loops as an expert would write them by hand, one file a framework: what Tandem is measured against."""
