//! The inference engine: slot scheduler over a model trait, and llama.cpp behind it.
