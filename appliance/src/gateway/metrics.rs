//! `/metrics`: the status as Prometheus reads it (OpenMetrics text).

use cerebrum_common::serve::{Answer, full};
use http::{HeaderValue, Response, header};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::Gateway;
use crate::status::{Probe, Status};
use crate::upstream::breaker::State;

/// Spans that the rate of tokens is measured over.
const RATE_SPANS: usize = 5;

/// The newest figures.
pub(super) fn metrics(gateway: &Gateway) -> Response<Answer> {
    let mut response = Response::new(full(gateway.board.look(describe)));
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn describe(status: &Status) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Figures(status.clone())));
    let mut out = String::new();
    // Writing into a string does not fail.
    text::encode(&mut out, &registry).map_or_else(|_| String::new(), |()| out)
}

#[derive(Debug)]
struct Figures(Status);

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let Self(status) = self;
        let (totals, saved) = (&status.totals, &status.savings.total);
        let counters = [
            ("cerebrum_requests_sent", "Requests sent to inference servers", totals.sent as f64),
            (
                "cerebrum_requests_successful",
                "Requests that inference servers answered completely",
                totals.successful as f64,
            ),
            ("cerebrum_requests_failed", "Requests whose answer broke or never came", totals.failed as f64),
            ("cerebrum_requests_cancelled", "Requests whose client left", totals.gone as f64),
            ("cerebrum_requests_shed", "Requests refused because all places were taken", totals.shed as f64),
            ("cerebrum_answers_cached", "Answers given from memory", totals.remembered as f64),
            ("cerebrum_answers_cached_tokens", "Tokens of answers given from memory", totals.remembered_tokens as f64),
            ("cerebrum_answers_resumed", "Answers that went on after the link broke", totals.resumed as f64),
            ("cerebrum_tokens_generated", "Tokens that inference servers generated", totals.tokens as f64),
            ("cerebrum_inference_seconds", "Time spent on complete answers", totals.inference_seconds),
            ("cerebrum_prompt_characters", "Characters of prompts as they came", totals.prompt_chars as f64),
            ("cerebrum_prompt_tokens", "Prompt tokens of complete answers", totals.prompt_tokens as f64),
            (
                "cerebrum_prompt_tokens_cached",
                "Prompt tokens that the server had in its cache",
                totals.cached_tokens as f64,
            ),
            ("cerebrum_prompt_tokens_saved", "Prompt tokens that preparation left out", saved.tokens() as f64),
            ("cerebrum_reading_seconds_saved", "Time that reading those would have taken", saved.seconds),
            ("cerebrum_prepared_characters", "Characters of prompts as they were sent", totals.prepared_chars as f64),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        let running = Instant::now().saturating_duration_since(status.started);
        let uptime = running.as_secs_f64();
        let gauges = [
            ("cerebrum_requests_active", "Requests in progress", f64::from(status.requests.active())),
            ("cerebrum_requests_queued", "Requests waiting for a place", f64::from(status.queued)),
            (
                "cerebrum_tokens_per_second",
                "Tokens written per second, over ten seconds",
                status.pace.rate(running, RATE_SPANS),
            ),
            ("cerebrum_cpu_percent", "Use of the appliance's processor", f64::from(status.cpu_percent)),
            ("cerebrum_uptime_seconds", "Time since the start", uptime),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        self.upstreams(&mut encoder)
    }
}

impl Figures {
    fn upstreams(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let kind = ConstGauge::new(0_f64).metric_type();
        let help = "Whether the upstream takes requests";
        let mut available = encoder.encode_descriptor("cerebrum_upstream_available", help, None, kind)?;
        for upstream in &self.0.upstreams {
            let value = ConstGauge::new(if upstream.available() { 1.0 } else { 0.0 });
            value.encode(available.encode_family(&[("upstream", &*upstream.name)])?)?;
        }
        let help = "Time that the upstream's last answer to a probe took";
        let mut trip = encoder.encode_descriptor("cerebrum_upstream_round_trip_seconds", help, None, kind)?;
        for upstream in &self.0.upstreams {
            if let Probe::Answered { round_trip, .. } = &upstream.probe {
                let value = ConstGauge::new(round_trip.as_secs_f64());
                value.encode(trip.encode_family(&[("upstream", &*upstream.name)])?)?;
            }
        }
        let help = "Whether the upstream is left alone after failures";
        let mut open = encoder.encode_descriptor("cerebrum_upstream_breaker_open", help, None, kind)?;
        for upstream in &self.0.upstreams {
            let value = ConstGauge::new(if matches!(upstream.breaker, State::Open { .. }) { 1.0 } else { 0.0 });
            value.encode(open.encode_family(&[("upstream", &*upstream.name)])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::status::{Board, Event};

    #[tokio::test]
    async fn figures_have_names_types_and_labels() {
        let board = Board::new(["vps".into()]);
        board.tell(Event::Shed);
        board.tell(Event::Link { upstream: 0, connected: true });
        let text = board.look(describe);
        for line in [
            "# TYPE cerebrum_requests_shed counter",
            "cerebrum_requests_shed_total 1.0",
            "# TYPE cerebrum_requests_active gauge",
            "cerebrum_upstream_available{upstream=\"vps\"} 1.0",
            "cerebrum_upstream_breaker_open{upstream=\"vps\"} 0.0",
            "# TYPE cerebrum_prompt_tokens_saved counter",
            "cerebrum_tokens_per_second 0.0",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }

    #[tokio::test]
    async fn the_dashboard_asks_for_figures_that_are_there() {
        let board = Board::new(["vps".into()]);
        board.tell(Event::Link { upstream: 0, connected: true });
        let answered = Probe::Answered { status: "healthy".into(), available: true, round_trip: Duration::ZERO };
        board.tell(Event::Probed { upstream: 0, probe: answered });
        let text = board.look(describe);
        let dashboard = include_str!("../../grafana.json");
        let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
        let asked: BTreeSet<&str> = dashboard.split(word).filter(|word| word.starts_with("cerebrum_")).collect();
        assert!(asked.len() > 10);
        for name in asked {
            assert!(text.lines().any(|line| line.split([' ', '{']).next() == Some(name)), "{name} in {text}");
        }
    }
}
