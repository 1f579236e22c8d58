"""The Open Inference Protocol, version 2, with Triton's extensions: binary tensors, classification, repository,
statistics, configuration."""
