//! `/metrics`: the status as Prometheus reads it, in its own text format or, where that is asked for, in OpenMetrics' one.

use std::collections::BTreeSet;

use cerebrum_common::serve::{Answer, full};
use http::{HeaderMap, HeaderValue, Response, header};
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

/// The two formats; parameters tell their versions.
const OPEN_METRICS: &str = "application/openmetrics-text";
const PLAIN: &str = "text/plain";

/// The newest figures, in the format that `asked` prefers.
pub(super) fn metrics(gateway: &Gateway, asked: &HeaderMap) -> Response<Answer> {
    let figures = gateway.board.look(describe);
    let (kind, text) = match wants_open_metrics(asked) {
        true => (HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8"), figures),
        false => (HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"), plain(&figures)),
    };
    let mut response = Response::new(full(text));
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    // What is between knows that another request may get another format.
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    response
}

/// Whether OpenMetrics is accepted by its name, and no less than the older format.
fn wants_open_metrics(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let kinds: Vec<(String, f32)> = accepted.flat_map(|list| list.split(',')).map(preference).collect();
    let of = |kind: &str| kinds.iter().filter(|(name, _)| name == kind).map(|(_, q)| *q).fold(0.0, f32::max);
    of(OPEN_METRICS) > 0.0 && of(OPEN_METRICS) >= of(PLAIN)
}

/// A media type of an `Accept` header, and how much it is wanted, 0 to 1.
fn preference(one: &str) -> (String, f32) {
    let mut parts = one.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
    let quality = parts.find_map(|part| part.strip_prefix("q=")?.trim().parse().ok());
    (kind, quality.unwrap_or(1.0))
}

/// The same figures in Prometheus' own format, in which a counter's name is that of its line, and nothing marks the end.
fn plain(open: &str) -> String {
    let type_of = |line: &'_ str| Some(line.strip_prefix("# TYPE ")?.strip_suffix(" counter")?.to_owned());
    let counters: BTreeSet<String> = open.lines().filter_map(type_of).collect();
    let mut out = String::with_capacity(open.len() + counters.len() * 16);
    for line in open.lines().filter(|line| *line != "# EOF") {
        let told = ["# HELP ", "# TYPE "].into_iter().find_map(|head| {
            let (name, rest) = line.strip_prefix(head)?.split_once(' ')?;
            counters.contains(name).then(|| format!("{head}{name}_total {rest}"))
        });
        out.push_str(told.as_deref().unwrap_or(line));
        out.push('\n');
    }
    out
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
    async fn prometheus_own_format_names_counters_as_their_lines() {
        let board = Board::new(["vps".into()]);
        board.tell(Event::Shed);
        let text = plain(&board.look(describe));
        for line in [
            "# HELP cerebrum_requests_shed_total Requests refused because all places were taken",
            "# TYPE cerebrum_requests_shed_total counter",
            "cerebrum_requests_shed_total 1.0",
            "# TYPE cerebrum_requests_active gauge",
            "cerebrum_requests_active 0.0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        // Each line of a figure stands below its own type.
        let mut current = "";
        for line in text.lines() {
            match line.strip_prefix("# TYPE ") {
                Some(told) => current = told.split(' ').next().unwrap_or_default(),
                None if line.starts_with('#') => {}
                None => assert_eq!(line.split([' ', '{']).next(), Some(current), "{line}"),
            }
        }
        assert!(!text.contains("# EOF"));
    }

    #[test]
    fn the_format_is_the_one_that_is_preferred() {
        let wants = |accepted: &[&str]| {
            let mut headers = HeaderMap::new();
            for accept in accepted {
                headers.append(header::ACCEPT, accept.parse().unwrap());
            }
            wants_open_metrics(&headers)
        };
        assert!(!wants(&[]) && !wants(&["*/*"]) && !wants(&["text/html, */*;q=0.8"]));
        assert!(!wants(&["application/openmetrics-text;q=0, text/plain"]));
        // What Prometheus sends, and what it sends when its settings prefer its own format.
        let usual = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        assert!(wants(&[usual]) && wants(&["text/plain;q=0.1", "Application/OpenMetrics-Text"]));
        assert!(!wants(&["text/plain;version=0.0.4;q=0.5,application/openmetrics-text;version=1.0.0;q=0.4,*/*;q=0.2"]));
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
        let told: BTreeSet<&str> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split([' ', '{']).next())
            .collect();
        assert_eq!(asked, told, "and shows all that there are");
    }
}
