"""A client of a served model, over REST and gRPC, and the same predictions from a model in this process."""
