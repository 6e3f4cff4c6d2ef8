//! The server, from settings to the end of the last stream. Reads as a boot log.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use cerebrum_common::keyring;
use cerebrum_common::lifecycle::{Tasks, notify_ready, notify_stopping, shutdown_signal};
use cerebrum_common::serve::{Server, bind};
use cerebrum_common::tls::{Reloading, ServerFiles, keep_fresh};
use cerebrum_common::watchdog;
use cerebrum_engine::{Engine, llama};

use crate::guards;
use crate::http::{Api, Holds, Renderer};
use crate::registry::{Cache, Catalog, Parts, Registry, Starter, keep_idle_unloaded};
use crate::settings::{Models, Settings};
use crate::trial::Trials;

/// Serves until a signal says stop, then drains.
///
/// # Errors
/// A listening address or TLS files that cannot be used.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    suits()?;
    let tasks = Tasks::new();
    let listener = bind(settings.listen).with_context(|| format!("cannot listen on {}", settings.listen))?;
    let address = listener.local_addr()?;
    let tls = tls(&settings, &tasks)?;
    let registry = registry(&settings, &tasks)?;
    announce(&settings, &registry);
    let scheme = if tls.is_some() { "https" } else { "http" };
    let service = Arc::new(api(&settings, &registry, &tasks)?);
    tasks.spawn(keyring::keep_fresh(settings.keys.clone(), tasks.clone()));
    tasks.spawn(Server { service, limits: settings.serve, tls, tasks: tasks.clone() }.run(listener));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "ready on {scheme}://{address}");
    notify_ready();
    watchdog::start(address, scheme == "https", &tasks);

    let signal = shutdown_signal().await?;
    tracing::info!(signal, "stopping: generations in progress have {} ms", settings.drain.as_millis());
    notify_stopping();
    if !tasks.drain(settings.drain).await {
        tracing::warn!("some generations were still in progress and have been ended");
    }
    registry.shut_down().await;
    Ok(())
}

/// Whether this build can compute on this processor, said now and not by its end at the first request.
fn suits() -> anyhow::Result<()> {
    let llama::Suitability { missing, unused } = llama::suitability();
    tracing::info!(features = %llama::system_info(), "processor");
    if !unused.is_empty() {
        let unused = unused.join(", ");
        tracing::warn!(unused, "llama.cpp was built without what this processor has: it computes several times slower");
    }
    anyhow::ensure!(
        missing.is_empty(),
        "this program was built for processors with {}, which this one lacks; build it for this processor",
        missing.join(", ")
    );
    Ok(())
}

fn tls(settings: &Settings, tasks: &Tasks) -> anyhow::Result<Option<Arc<Reloading<ServerFiles>>>> {
    let tls = settings.tls.clone().map(Reloading::new).transpose()?.map(Arc::new);
    if let Some(tls) = &tls {
        tasks.spawn(keep_fresh(tls.clone(), tasks.clone()));
    }
    Ok(tls)
}

fn registry(settings: &Settings, tasks: &Tasks) -> anyhow::Result<Registry> {
    let models = &settings.models;
    let registry = Registry::new(Parts {
        catalog: Catalog {
            folder: models.folder.clone(),
            aliases: models.aliases.clone(),
            default: models.default.clone(),
        },
        starter: starter(models)?,
        cache: cache(models),
        memory: Box::new(guards::available_memory),
        min_free_ram: settings.guards.min_free_ram,
        tasks: tasks.clone(),
    });
    tasks.spawn(keep_idle_unloaded(registry.clone(), models.idle_unload, tasks.clone()));
    Ok(registry)
}

fn starter(models: &Models) -> anyhow::Result<Starter> {
    let Models { threads, context, chunk, engine, .. } = *models;
    let adapters = models.adapters.clone();
    let keep_prefixes = models.state.as_ref().zip(models.keep_prefixes);
    let keep_prefixes = keep_prefixes.map(|(state, limit)| (state.join("prefixes"), limit));
    let trials = Trials::new(models.state.as_deref()).context("cannot find this program's own file")?;
    Ok(Box::new(move |found| {
        let own = adapters.iter().filter(|adapter| adapter.model == found.name);
        let adapters = own.map(|adapter| adapter.file.clone()).collect();
        let keep_prefixes = keep_prefixes.clone();
        let options =
            llama::Options { context, threads, chunk, adapters, keep_prefixes, ..llama::Options::new(&found.path) };
        let trials = trials.clone();
        Engine::start(&found.name, engine, move |control| trials.fitted(options, control)?.loader()(control))
    }))
}

fn cache(models: &Models) -> Cache {
    let Models { context, engine, .. } = *models;
    Box::new(move |found| llama::Options { context, ..llama::Options::new(&found.path) }.cache_bytes(engine))
}

fn api(settings: &Settings, registry: &Registry, tasks: &Tasks) -> anyhow::Result<Api> {
    Ok(Api {
        keys: settings.keys.clone(),
        limits: settings.serve,
        tokens: settings.tokens,
        guards: settings.guards,
        vitals: guards::watch(tasks),
        registry: registry.clone(),
        renderer: Renderer::apart().context("cannot find this program's own file")?,
        heartbeat: settings.heartbeat,
        holds: Arc::new(Holds::new(settings.hold)),
        tasks: tasks.clone(),
        started: Instant::now(),
    })
}

fn announce(settings: &Settings, registry: &Registry) {
    let models = &settings.models;
    let names: Vec<_> = registry.catalog().list().into_iter().map(|model| model.name).collect();
    let threads = models.threads.or_else(|| std::thread::available_parallelism().ok().map(usize::from));
    tracing::info!(
        threads = threads.unwrap_or(1),
        slots = models.engine.slots,
        queue = models.engine.queue,
        models = names.join(", "),
        "models of {}",
        models.folder.display()
    );
    for (alias, model) in models.aliases.iter().filter(|(_, model)| !names.contains(model)) {
        tracing::warn!(alias, model, "an alias of a model that is not there");
    }
    if let Some(default) = &models.default
        && let Err(reason) = registry.catalog().resolve(default).and_then(|name| registry.catalog().find(&name))
    {
        tracing::warn!(%reason, "the default model is not there");
    }
}
