//! Both real programs together: what end-to-end tests, benchmarks and the demonstration start and talk to.

pub mod client;
pub mod proxy;
pub mod random;
pub mod scripted;
pub mod stack;
pub mod stub_service;
pub mod vm;
