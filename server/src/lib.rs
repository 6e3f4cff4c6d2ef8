//! The inference server: HTTP side, model registry, guards.
