//! The inference server: HTTP side, model registry, guards.
//!
//! - [`http`]: who may call what; requests to engine requests, engine events to answers.
//! - [`registry`]: which models there are, which are loaded, who waits for one, which has to go.
//! - [`guards`]: whether the machine has room for another inference.
//! - [`models`]: the folder of models: packages, pulls, checks.
//! - [`trial`]: the first load of a file, in a process of its own.
//! - [`kernels`]: the build that suits this processor.
//! - [`settings`], [`daemon`], [`identities`], [`keyring`]: the program around them.
//!
//! Generation itself is [`cerebrum_engine`]'s. Nothing here touches a model but through its [`Engine`](cerebrum_engine::Engine).

pub mod daemon;
pub mod guards;
pub mod http;
pub mod identities;
pub mod kernels;
pub mod keyring;
pub mod models;
pub mod registry;
pub mod settings;
pub mod trial;
