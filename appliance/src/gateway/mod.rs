//! The gateway: what clients on the LAN talk to.
//!
//! `pipeline` shows the way of a request; every verb in it is a file of that name. `routes` maps paths to calls,
//! `info` answers the calls that only report.

mod account;
pub mod admit;
pub mod authenticate;
mod forward;
mod info;
mod pipeline;
mod prepare;
mod record;
mod route;
mod routes;
mod stream;
mod whole;

use std::sync::Arc;

use cerebrum_common::keyring::Keyring;
use cerebrum_common::lifecycle::Tasks;
use cerebrum_common::serve;

use crate::settings::Settings;
use crate::status::Board;
use crate::upstream::Upstream;

/// Everything a request needs, shared by all of them.
#[derive(Debug)]
pub struct Gateway {
    keys: Arc<Keyring>,
    gate: admit::Gate,
    limits: serve::Limits,
    preparation: prepare::Preparation,
    deadlines: crate::settings::Stream,
    retries: forward::RetryBudget,
    upstreams: Vec<Arc<Upstream>>,
    board: Board,
    tasks: Tasks,
    port: u16,
}

impl Gateway {
    /// A gateway over upstreams that have been started.
    pub fn new(settings: &Settings, upstreams: Vec<Arc<Upstream>>, board: Board, tasks: Tasks) -> Self {
        Self {
            keys: settings.keys.clone(),
            gate: admit::Gate::new(settings.admit, board.clone()),
            limits: settings.serve,
            preparation: prepare::Preparation::new(settings),
            deadlines: settings.stream,
            retries: forward::RetryBudget::default(),
            upstreams,
            board,
            tasks,
            port: settings.listen.port(),
        }
    }
}
