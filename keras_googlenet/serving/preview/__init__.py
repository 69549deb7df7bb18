"""A local preview of TensorFlow Serving: REST and gRPC over SavedModels, for trying an export."""
