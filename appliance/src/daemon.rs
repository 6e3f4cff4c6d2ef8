//! The daemon, from settings to the end of the last stream. Reads as a boot log.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use cerebrum_common::keyring::{self, Keyring};
use cerebrum_common::lifecycle::{Tasks, notify_ready, notify_stopping, shutdown_signal};
use cerebrum_common::serve::{Server, bind};
use cerebrum_common::tls::{Reloading, keep_fresh};
use cerebrum_common::watchdog;
use sysinfo::{Networks, System};

use crate::announce::{self, Announcement, Farewell};
use crate::gateway::Gateway;
use crate::panel::{self, Inside};
use crate::settings::Settings;
use crate::status::{Board, Event};
use crate::strain;
use crate::upstream::Upstream;
use crate::upstream::way::Way;

/// Pause between measurements of the machine.
const MACHINE_EVERY: std::time::Duration = std::time::Duration::from_secs(5);

/// Serves until a signal says stop, then drains.
///
/// # Errors
/// A listening address or TLS files that cannot be used.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let tasks = Tasks::new();
    let listener = bind(settings.listen).with_context(|| format!("cannot listen on {}", settings.listen))?;
    let address = listener.local_addr()?;
    let board = Board::new(settings.upstreams.iter().map(|upstream| upstream.name.as_str().into()));
    let upstreams = start_upstreams(&settings, &board, &tasks)?;
    let tls = settings.tls.clone().map(Reloading::new).transpose()?.map(Arc::new);
    if let Some(tls) = &tls {
        tasks.spawn(keep_fresh(tls.clone(), tasks.clone()));
    }
    tasks.spawn(keyring::keep_fresh(settings.keys.clone(), tasks.clone()));
    tasks.spawn(watch_machine(board.clone(), settings.listen.ip(), settings.keys.clone(), tasks.clone()));
    let inside = Arc::new(Inside {
        board,
        pairing: Arc::default(),
        keys: settings.keys.clone(),
        stops: Arc::default(),
        upstreams,
        port: settings.listen.port(),
    });
    let panel = panel::start(settings.board.clone(), inside.clone(), &tasks).context("the board's thread")?;
    let gateway = Gateway::new(&settings, &inside, panel.clone(), tasks.clone());
    let scheme = if tls.is_some() { "https" } else { "http" };
    let server = Server { service: gateway, limits: settings.serve, tls, tasks: tasks.clone() };
    tasks.spawn(server.run(listener));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "ready on {scheme}://{address}");
    notify_ready();
    watchdog::start(address, scheme == "https", &tasks);
    let announced = settings.announce.as_ref();
    let announced = announced.and_then(|name| announce::start(name, address, scheme == "https", &tasks));

    let signal = shutdown_signal().await?;
    tracing::info!(signal, "stopping: requests in progress have {} ms", settings.drain.as_millis());
    notify_stopping();
    let farewell = announced.map(Announcement::goodbye);
    if !tasks.drain(settings.drain).await {
        tracing::warn!("some requests were still in progress and have been ended");
    }
    farewell.into_iter().for_each(Farewell::wait);
    // The last holder: the thread draws its last picture, which stays, and ends.
    drop(panel);
    Ok(())
}

fn start_upstreams(settings: &Settings, board: &Board, tasks: &Tasks) -> anyhow::Result<Vec<Arc<Upstream>>> {
    let (mut upstreams, vocabularies) = (Vec::new(), Arc::default());
    for (index, upstream) in settings.upstreams.iter().enumerate() {
        let started = Upstream::start(index, upstream, (settings.admit.in_progress, &vocabularies), board, tasks)?;
        if let Way::Frames(link) = &started.way
            && let Some(tls) = link.tls()
        {
            tasks.spawn(keep_fresh(tls.clone(), tasks.clone()));
        }
        upstreams.push(started);
    }
    Ok(upstreams)
}

/// Measures what the status says of the machine: the processor's use, the addresses others reach it by, what it suffers from.
async fn watch_machine(board: Board, listen: IpAddr, keys: Arc<Keyring>, tasks: Tasks) {
    let mut system = System::new();
    loop {
        if let Ok(system) = &mut system {
            system.refresh_cpu_usage();
            board.tell(Event::Cpu(system.global_cpu_usage()));
        }
        board.tell(Event::Addresses(if listen.is_loopback() { vec![listen] } else { addresses() }));
        board.tell(Event::Strain(strain::measure(Path::new("/sys"))));
        board.tell(Event::Keys(keys.is_sound()));
        if tasks.until_stopping(tokio::time::sleep(MACHINE_EVERY)).await.is_none() {
            return;
        }
    }
}

/// IPv4 first: shorter on the panel, and easier to type.
fn addresses() -> Vec<IpAddr> {
    let Ok(networks) = Networks::new_with_refreshed_list() else { return Vec::new() };
    let all = networks.values().flat_map(|network| network.ip_networks()).map(|network| network.addr);
    let mut useful: Vec<_> = all.filter(|address| !address.is_loopback() && !is_link_local(*address)).collect();
    useful.sort_by_key(|address| (address.is_ipv6(), *address));
    useful
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}
