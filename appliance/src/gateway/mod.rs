//! The gateway: what clients on the LAN talk to.
//!
//! `pipeline` shows the way of a request; every verb in it is a file of that name. `routes` maps paths to calls,
//! `info` answers the calls that only report.

mod account;
pub mod admit;
mod answering;
mod ask;
pub mod authenticate;
mod batch;
pub mod cache;
mod chat;
pub mod cors;
mod count;
mod dry_run;
mod events;
mod figures;
mod forward;
mod info;
pub mod kept;
mod metrics;
mod page;
mod pair;
mod pass;
mod pipeline;
mod places;
mod prepare;
mod press;
mod quota;
mod record;
mod refused;
mod route;
mod routes;
mod sessions;
mod several;
pub mod stops;
mod stream;
mod watchers;
mod whole;

use std::sync::{Arc, Weak};

use cerebrum_common::keyring::Keyring;
use cerebrum_common::lifecycle::Tasks;
use cerebrum_common::serve;
use tokio::sync::Semaphore;

use crate::pairing::Pairing;
use crate::panel::Inside;
use crate::settings::Settings;
use crate::status::Board;
use crate::upstream::Upstream;

/// Everything a request needs, shared by all of them.
#[derive(Debug)]
pub struct Gateway {
    keys: Arc<Keyring>,
    cors: cors::Origins,
    gate: admit::Gate,
    bodies: serve::Bodies,
    preparation: prepare::Preparation,
    deadlines: crate::settings::Stream,
    retries: forward::RetryBudget,
    stops: Arc<stops::Stops>,
    pairing: Arc<Pairing>,
    panel: Option<Arc<cerebrum_board::Board>>,
    watchers: watchers::Watchers,
    passing: Semaphore,
    upstreams: Vec<Arc<Upstream>>,
    board: Board,
    tasks: Tasks,
    kept: kept::KeptAnswers,
    cache: Arc<cache::Cache>,
    /// Itself, for answers that outlive their connection.
    me: Weak<Self>,
    port: u16,
}

impl Gateway {
    /// A gateway over upstreams that have been started, with a board or without.
    pub fn new(
        settings: &Settings,
        inside: &Inside,
        panel: Option<Arc<cerebrum_board::Board>>,
        tasks: Tasks,
    ) -> Arc<Self> {
        let board = inside.board.clone();
        Arc::new_cyclic(|me| Self {
            keys: settings.keys.clone(),
            cors: settings.cors.clone(),
            gate: admit::Gate::new(settings.admit, board.clone(), inside.stops.clone()),
            bodies: serve::Bodies::new(settings.serve),
            preparation: prepare::Preparation::new(settings, &inside.upstreams, &tasks),
            deadlines: settings.stream,
            retries: forward::RetryBudget::default(),
            stops: inside.stops.clone(),
            pairing: inside.pairing.clone(),
            panel,
            passing: Semaphore::new(pass::AT_A_TIME),
            watchers: watchers::Watchers::default(),
            upstreams: inside.upstreams.clone(),
            board,
            tasks,
            kept: kept::KeptAnswers::new(settings.keep),
            cache: Arc::new(cache::Cache::new(settings.cache)),
            me: me.clone(),
            port: settings.listen.port(),
        })
    }
}
