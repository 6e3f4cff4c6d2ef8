//! Says on the local network that the appliance is there (multicast DNS, RFC 6762 and 6763): its name answers, and who looks
//! for web services finds it as `_http._tcp`, or `_https._tcp`. Addresses follow the machine's interfaces; a name that
//! somebody else has is changed and logged. All of it happens on a thread of the crate's own, and nothing waits for it.
//!
//! Where another program of the machine answers for this name already (systemd-resolved on the image), this is switched off.

use std::net::SocketAddr;
use std::time::Duration;

use cerebrum_common::lifecycle::Tasks;
use mdns_sd::{DaemonEvent, DaemonStatus, IfKind, Receiver, ServiceDaemon, ServiceInfo};

/// How long the goodbye may take; it is a packet an interface.
const GOODBYE: Duration = Duration::from_secs(1);

/// Under what name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The first part of `NAME.local`: letters, digits and hyphens.
    pub name: String,
}

/// The appliance's presence on the network.
pub struct Announcement(ServiceDaemon);

impl std::fmt::Debug for Announcement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Announcement")
    }
}

/// Announces what listens on `listen`, and goes on until [`Announcement::goodbye`]. Where that cannot be done, it is logged, and
/// the appliance is reached by its address.
pub fn start(settings: &Settings, listen: SocketAddr, tls: bool, tasks: &Tasks) -> Option<Announcement> {
    match announce(settings, listen, tls) {
        Ok((daemon, events)) => {
            tasks.spawn(watch(events, tasks.clone()));
            Some(Announcement(daemon))
        }
        Err(error) => {
            tracing::warn!(%error, "the appliance cannot announce itself; its address still answers");
            None
        }
    }
}

fn announce(
    settings: &Settings,
    listen: SocketAddr,
    tls: bool,
) -> Result<(ServiceDaemon, Receiver<DaemonEvent>), mdns_sd::Error> {
    let kind = if tls { "_https._tcp.local." } else { "_http._tcp.local." };
    let host = format!("{}.local.", settings.name);
    let address = if listen.ip().is_unspecified() { String::new() } else { listen.ip().to_string() };
    let path = [("path", "/")];
    let service = ServiceInfo::new(kind, &settings.name, &host, address.as_str(), listen.port(), &path[..])?;
    let daemon = ServiceDaemon::new()?;
    let events = daemon.monitor()?;
    let service = if listen.ip().is_unspecified() {
        daemon.disable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6])?;
        if listen.is_ipv4() {
            // Nobody listens there.
            daemon.disable_interface(IfKind::IPv6)?;
        }
        service.enable_addr_auto()
    } else {
        daemon.disable_interface(IfKind::All)?;
        daemon.enable_interface(IfKind::Addr(listen.ip()))?;
        service
    };
    daemon.register(service)?;
    Ok((daemon, events))
}

async fn watch(events: Receiver<DaemonEvent>, tasks: Tasks) {
    let (mut complained, mut told) = (false, String::new());
    while let Some(Ok(event)) = tasks.until_stopping(events.recv_async()).await {
        match event {
            // Once for each of a name's records.
            DaemonEvent::NameChange(change) if told != change.new_name => {
                tracing::warn!(from = change.original, to = change.new_name, "another machine has this name: changed");
                told = change.new_name;
            }
            DaemonEvent::Error(error) if !std::mem::replace(&mut complained, true) => {
                tracing::warn!(%error, "announcing the appliance");
            }
            _ => {}
        }
    }
}

impl Announcement {
    /// Tells the network that the appliance goes; [`Farewell::wait`] before the program ends.
    pub fn goodbye(self) -> Farewell {
        Farewell(self.0.shutdown().ok())
    }
}

/// A goodbye on its way.
#[derive(Debug)]
pub struct Farewell(Option<Receiver<DaemonStatus>>);

impl Farewell {
    /// Waits until it has been sent, for a second at most.
    pub fn wait(self) {
        if let Some(sent) = self.0 {
            // Whoever missed it notices when the records run out.
            sent.recv_timeout(GOODBYE).ok();
        }
    }
}
