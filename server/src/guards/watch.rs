//! Measures processors and memory once a second and publishes the result. The only place that asks the system.

use std::time::{Duration, Instant};

use cerebrum_common::lifecycle::Tasks;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
use tokio::sync::watch;

use super::{Sample, Vitals, others_percent, smoothed};

/// Pause between measurements: one costs about a tenth of a millisecond.
const EVERY: Duration = Duration::from_secs(1);

/// Starts measuring. The first value is there at once: memory as it is, processors taken for idle.
pub fn watch(tasks: &Tasks) -> watch::Receiver<Vitals> {
    let Some(mut meter) = Meter::new() else {
        tracing::warn!("processors and memory cannot be measured on this system: the guards are off");
        return watch::channel(Vitals { ram_available: u64::MAX, ..Vitals::default() }).1;
    };
    let (publish, vitals) = watch::channel(meter.vitals);
    let running = tasks.clone();
    tasks.spawn(async move {
        while running.until_stopping(tokio::time::sleep(EVERY)).await.is_some() {
            publish.send_replace(meter.measure());
        }
    });
    vitals
}

/// Memory that could be had now without swapping, in bytes; everything when it cannot be measured.
pub fn available_memory() -> u64 {
    System::new().map_or(u64::MAX, |mut system| {
        system.refresh_memory();
        system.available_memory()
    })
}

/// All memory of the machine, in bytes; nothing when it cannot be measured.
pub fn total_memory() -> u64 {
    System::new().map_or(0, |mut system| {
        system.refresh_memory();
        system.total_memory()
    })
}

struct Meter {
    system: System,
    own: Pid,
    started: Instant,
    before: Sample,
    vitals: Vitals,
}

impl Meter {
    fn new() -> Option<Self> {
        let (system, own) = (System::new().ok()?, sysinfo::get_current_pid().ok()?);
        let before = Sample { busy_percent: 0.0, own: Duration::ZERO, at: Duration::ZERO };
        let mut meter = Self { system, own, started: Instant::now(), before, vitals: Vitals::default() };
        meter.before = meter.sample();
        meter.vitals = meter.with_memory(Vitals::default());
        Some(meter)
    }

    fn measure(&mut self) -> Vitals {
        let now = self.sample();
        let others = others_percent(&self.before, &now, self.system.cpus().len());
        self.before = now;
        self.vitals = self.with_memory(Vitals {
            cpu_percent: smoothed(self.vitals.cpu_percent, now.busy_percent),
            others_percent: smoothed(self.vitals.others_percent, others),
            ..self.vitals
        });
        self.vitals
    }

    fn sample(&mut self) -> Sample {
        let own_only = ProcessesToUpdate::Some(&[self.own]);
        self.system.refresh_cpu_usage();
        self.system.refresh_processes_specifics(own_only, false, ProcessRefreshKind::nothing().with_cpu());
        let own = self.system.process(self.own).map_or(0, |process| process.accumulated_cpu_time());
        Sample {
            busy_percent: self.system.global_cpu_usage(),
            own: Duration::from_millis(own),
            at: self.started.elapsed(),
        }
    }

    fn with_memory(&mut self, vitals: Vitals) -> Vitals {
        self.system.refresh_memory();
        Vitals { ram_available: self.system.available_memory(), ram_used: self.system.used_memory(), ..vitals }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_be_measured() {
        let mut meter = Meter::new().unwrap();
        assert!(meter.vitals.ram_available > 0 && meter.vitals.ram_used > 0);
        let vitals = meter.measure();
        assert!((0.0..=100.0).contains(&vitals.cpu_percent) && (0.0..=100.0).contains(&vitals.others_percent));
        assert!(available_memory() > 0 && available_memory() < u64::MAX);
        assert!(total_memory() >= available_memory());
    }
}
