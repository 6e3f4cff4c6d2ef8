//! The appliance: what runs on the board on the LAN.
//!
//! - [`gateway`]: takes requests, prepares prompts, forwards them, streams answers.
//! - [`upstream`]: the inference servers, their connections, health and breakers.
//! - [`status`]: what is going on, as one value that only flows outward.
//! - [`problem`]: what of it is wrong, as far as a person can mend it.
//! - [`display`]: that value as the board shows it.
//! - [`strain`]: the machine's temperature and voltage.
//! - [`announce`]: its name and service, for the local network.
//! - [`panel`], [`pairing`]: the board in the daemon, and what is decided at it.
//! - [`settings`]: the configuration file.
//! - [`provision`]: the image's settings, from `cerebrum.toml` on its boot partition.
//! - [`report`]: the panel alone, for when they are wrong.
//! - [`update`]: the image's two slots, and how one takes the other's place.
//! - [`client`]: the command-line client.
//! - [`daemon`]: starts and stops it all.

pub mod announce;
pub mod client;
pub mod daemon;
pub mod display;
pub mod gateway;
pub mod pairing;
pub mod panel;
pub mod presses;
pub mod problem;
pub mod provision;
pub mod report;
pub mod settings;
pub mod status;
pub mod strain;
pub mod system_command;
pub mod update;
pub mod upstream;
