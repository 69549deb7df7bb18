"""A local preview of TensorFlow Serving: REST and gRPC over SavedModels, to try an export."""
