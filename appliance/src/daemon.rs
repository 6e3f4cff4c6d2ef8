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

/// Those of the interface that leads to other networks first and tunnels last, where few look for the appliance; then IPv4
/// first: shorter on the panel, and easier to type.
fn addresses() -> Vec<IpAddr> {
    let Ok(networks) = Networks::new_with_refreshed_list() else { return Vec::new() };
    let leading = std::fs::read_to_string("/proc/net/route").ok().and_then(|table| default_interface(&table));
    let all = networks.iter().flat_map(|(name, network)| {
        network.ip_networks().iter().map(move |known| (name.to_string_lossy(), known.addr))
    });
    let mut useful: Vec<_> = all.filter(|(_, address)| !address.is_loopback() && !is_link_local(*address)).collect();
    useful.sort_by_key(|(name, address)| (rank(name, leading.as_deref()), address.is_ipv6(), *address));
    useful.into_iter().map(|(_, address)| address).collect()
}

/// The interface of the default route with the lowest metric, in the kernel's table of IPv4 routes: a heading, then lines
/// of interface, destination, gateway, flags, references, uses and metric.
fn default_interface(table: &str) -> Option<String> {
    let routes = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let default = routes.filter(|route| route.get(1) == Some(&"00000000"));
    let metric = |route: &Vec<&str>| route.get(6).and_then(|metric| metric.parse::<u32>().ok()).unwrap_or(u32::MAX);
    default.min_by_key(metric).map(|route| route[0].to_owned())
}

/// Where an interface's addresses stand among all.
fn rank(name: &str, leading: Option<&str>) -> u8 {
    let tunnel = ["wg", "tun", "tap", "docker", "veth", "br-"].iter().any(|kind| name.starts_with(kind));
    match (leading == Some(name), tunnel) {
        (_, true) => 2,
        (true, false) => 0,
        (false, false) => 1,
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interface_that_leads_on_goes_first_and_tunnels_last() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
                     wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\n\
                     eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\n\
                     eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n";
        let leading = default_interface(table);
        assert_eq!(leading.as_deref(), Some("eth0"));
        let mut names = ["wg0", "wlan0", "eth0"];
        names.sort_by_key(|name| rank(name, leading.as_deref()));
        assert_eq!(names, ["eth0", "wlan0", "wg0"]);
        assert_eq!(default_interface("Iface\n"), None);
    }
}
