//! The appliance: what runs on the board on the LAN.
//!
//! - [`gateway`]: takes requests, prepares prompts, forwards them, streams answers.
//! - [`upstream`]: the inference servers, their connections, health and breakers.
//! - [`status`]: what is going on, as one value that only flows outward.
//! - [`display`]: that value as the board shows it.
//! - [`panel`], [`pairing`]: the board in the daemon, and what is decided at it.
//! - [`settings`]: the configuration file.
//! - [`client`]: the command-line client.
//! - [`daemon`]: starts and stops it all.

pub mod client;
pub mod daemon;
pub mod display;
pub mod gateway;
pub mod pairing;
pub mod panel;
pub mod settings;
pub mod status;
pub mod upstream;
