//! Both real programs together: end-to-end tests, fault injection, benchmarks.
