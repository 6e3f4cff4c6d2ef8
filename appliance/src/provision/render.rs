//! From what the image is told to the files that systemd-networkd, resolved, timesyncd, wpa_supplicant, nftables and dropbear read.
//! Pure.

use std::fmt::Write;
use std::path::PathBuf;

use super::system::{Network, System, Wifi, Wireguard};

/// What a file holds, and who may read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Everybody.
    Public(String),
    /// Root only.
    Private(String),
}

/// The files, by their place under `/run`.
pub(super) fn files(system: &System) -> Vec<(PathBuf, Content)> {
    let mut files = vec![("cerebrum/hostname".into(), Content::Public(format!("{}\n", system.name)))];
    let mut public = |path: &str, text: String| files.push((path.into(), Content::Public(text)));
    public("systemd/dnssd/cerebrum.dnssd", service(system));
    if system.keeps_logs {
        public("cerebrum/keep-logs", String::new());
    }
    if let Some(network) = &system.network {
        public("systemd/network/10-cerebrum.network", cable(network));
    }
    if !system.time_servers.is_empty() {
        let servers = system.time_servers.join(" ");
        public("systemd/timesyncd.conf.d/cerebrum.conf", format!("[Time]\nNTP={servers}\n"));
    }
    let mut ports: Vec<u16> = system.port.into_iter().filter(|port| *port != 7000).collect();
    if !system.ssh_keys.is_empty() {
        public("cerebrum/ssh/authorized_keys", system.ssh_keys.join("\n") + "\n");
        ports.push(22);
    }
    for port in ports {
        public(&format!("cerebrum/firewall/{port}.nft"), format!("tcp dport {port} accept\n"));
    }
    if let Some(wireguard) = &system.wireguard {
        public("systemd/network/20-wireguard.netdev", tunnel(wireguard));
        public(
            "systemd/network/20-wireguard.network",
            format!("[Match]\nName=wg0\n\n[Network]\nAddress={}\n", wireguard.address),
        );
        let key = Content::Private(wireguard.private_key.clone());
        files.push(("credstore/network.wireguard.private.20-wireguard".into(), key));
    }
    if let Some(wifi) = &system.wifi {
        files.push(("cerebrum/wpa_supplicant.conf".into(), Content::Private(radio(wifi))));
    }
    files
}

/// What systemd-resolved announces: the one who answers to the machine's name on the image.
fn service(system: &System) -> String {
    let kind = if system.tls { "_https._tcp" } else { "_http._tcp" };
    let port = system.port.unwrap_or(7000);
    format!("[Service]\nName={}\nType={kind}\nPort={port}\nTxtText=path=/\n", system.name)
}

fn cable(network: &Network) -> String {
    let mut text =
        format!("[Match]\nType=ether\n\n[Network]\nAddress={}\nMulticastDNS=yes\nIPv6AcceptRA=yes\n", network.address);
    if let Some(gateway) = network.gateway {
        push(&mut text, "Gateway", &gateway);
    }
    for server in &network.dns {
        push(&mut text, "DNS", server);
    }
    text
}

fn tunnel(wireguard: &Wireguard) -> String {
    let mut text = "[NetDev]\nName=wg0\nKind=wireguard\n\n[WireGuard]\nRouteTable=main\n\n[WireGuardPeer]\n".to_owned();
    push(&mut text, "PublicKey", &wireguard.peer_public_key);
    push(&mut text, "Endpoint", &wireguard.endpoint);
    push(&mut text, "PersistentKeepalive", &wireguard.keepalive_seconds);
    for prefix in &wireguard.allowed_ips {
        push(&mut text, "AllowedIPs", prefix);
    }
    text
}

/// The name in hexadecimal, so that no character of it means anything to wpa_supplicant.
fn radio(wifi: &Wifi) -> String {
    let ssid: String = wifi.ssid.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("country={}\nnetwork={{\n\tssid={ssid}\n\tpsk=\"{}\"\n}}\n", wifi.country, wifi.passphrase)
}

fn push(text: &mut String, key: &str, value: &dyn std::fmt::Display) {
    // Writing to a string cannot fail.
    writeln!(text, "{key}={value}").unwrap_or_default();
}
