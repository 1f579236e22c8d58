"""The prediction of a whole dataset: batch by batch in durable parts, which become one file in the end."""
