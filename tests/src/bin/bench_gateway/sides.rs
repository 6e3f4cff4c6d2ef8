//! The three ways to the upstream: straight, through nginx, through the appliance.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use cerebrum_common::keys::{KeyFile, Secret};
use cerebrum_tests::stack::{binary, free_port};

use super::process::Process;
use super::report::Quantiles;
use super::upstream::Upstream;

/// A way to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Side {
    /// No one between.
    Direct,
    /// A reverse proxy that only passes bytes on.
    Nginx,
    /// `cerebrumd`: checks the key, prepares, admits, translates, records.
    Appliance,
}

impl Side {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Direct, Self::Nginx, Self::Appliance];

    /// For tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx",
            Self::Appliance => "cerebrumd",
        }
    }
}

/// Files and addresses.
#[derive(Debug)]
pub(crate) struct Site {
    folder: tempfile::TempDir,
    upstream: SocketAddr,
    /// What the appliance wants to see.
    pub(crate) key: Secret,
}

/// nginx and the appliance at work, and the upstream behind them.
#[derive(Debug)]
pub(crate) struct Running {
    /// The reverse proxy.
    pub(crate) nginx: Process,
    /// The appliance.
    pub(crate) appliance: Process,
    addresses: [SocketAddr; 3],
}

impl Running {
    /// Where a side is reached.
    pub(crate) fn address(&self, side: Side) -> SocketAddr {
        self.addresses[side as usize]
    }
}

impl Site {
    /// Writes the files.
    pub(crate) fn new(upstream: &Upstream) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut keys = KeyFile::default();
        let key = keys.add("benchmark");
        keys.write(&folder.path().join("keys.toml"))?;
        std::fs::write(folder.path().join("upstream.secret"), key.expose())?;
        Ok(Self { folder, upstream: upstream.address(), key })
    }

    /// Starts both, with `max_in_progress` places in the appliance (its default when `None`), and waits until they serve.
    pub(crate) async fn run(&self, max_in_progress: Option<usize>) -> anyhow::Result<Running> {
        let (mut nginx, at_nginx) = self.nginx()?;
        let (mut appliance, at_appliance) = self.appliance(max_in_progress)?;
        nginx.ready(at_nginx).await?;
        appliance.ready(at_appliance).await?;
        Ok(Running { nginx, appliance, addresses: [self.upstream, at_nginx, at_appliance] })
    }

    fn nginx(&self) -> anyhow::Result<(Process, SocketAddr)> {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let config = self.folder.path().join("nginx.conf");
        std::fs::write(&config, nginx_settings(address, self.upstream))?;
        let mut command = Command::new("nginx");
        command.arg("-p").arg(self.folder.path()).arg("-c").arg(config);
        Ok((Process::start(&mut command, &self.folder.path().join("nginx.log"))?, address))
    }

    fn appliance(&self, max_in_progress: Option<usize>) -> anyhow::Result<(Process, SocketAddr)> {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let limits = max_in_progress.map(|places| format!("max_in_progress = {places}\n")).unwrap_or_default();
        let settings = format!(
            "listen = \"{address}\"\nkeys_file = \"keys.toml\"\n[limits]\n{limits}\
             [[upstream]]\nname = \"scripted\"\nurl = \"http://{}\"\nkey_file = \"upstream.secret\"\n",
            self.upstream,
        );
        let config = self.folder.path().join("cerebrum.toml");
        std::fs::write(&config, settings)?;
        let mut command = Command::new(binary("cerebrumd")?);
        command.arg("--config").arg(config);
        Ok((Process::start(&mut command, &self.folder.path().join("cerebrumd.log"))?, address))
    }
}

/// One worker, as one core is enough; connections to the upstream kept; nothing buffered, as token streams need it.
fn nginx_settings(listen: SocketAddr, upstream: SocketAddr) -> String {
    format!(
        "daemon off; worker_processes 1; worker_rlimit_nofile 8192; pid nginx.pid; error_log stderr;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n access_log access.log;\n client_body_temp_path body; proxy_temp_path proxy;\n\
         fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
         client_body_buffer_size 64k; keepalive_requests 1000000;\n\
         upstream scripted {{ server {upstream}; keepalive 64; keepalive_requests 1000000; }}\n\
         server {{ listen {listen}; location / {{ proxy_pass http://scripted; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; proxy_buffering off; }} }}\n}}\n"
    )
}

/// Times from the start to the first answer, in milliseconds.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Ready {
    /// Of nginx.
    pub(crate) nginx: f64,
    /// Of the appliance.
    pub(crate) appliance: f64,
}

/// Medians over `starts` starts of each.
pub(crate) async fn ready(site: &Site, starts: usize) -> anyhow::Result<Ready> {
    let (mut nginx, mut appliance) = (Quantiles::default(), Quantiles::default());
    for _ in 0..starts {
        let (mut process, address) = site.nginx()?;
        nginx.push(milliseconds(process.ready(address).await?));
        drop(process);
        let (mut process, address) = site.appliance(None)?;
        appliance.push(milliseconds(process.ready(address).await?));
    }
    Ok(Ready { nginx: nginx.at(0.5), appliance: appliance.at(0.5) })
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
