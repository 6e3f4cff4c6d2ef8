//! Paths to calls. Every answer leaves with its request's id; every call but `/health`, the page and the display needs a key.

use cerebrum_common::request_id::{self, RequestId};
use cerebrum_common::serve::{Answer, Peer, Refusal, Service};
use cerebrum_common::wire::dialect::Dialect;
use http::request::Parts;
use http::{Method, Request, Response};
use hyper::body::Incoming;

use super::info::{self, Picture};
use super::page::{self, Asset};
use super::pipeline::{self, Delivery};
use super::{Gateway, authenticate, count, dry_run, events, kept, metrics, pair, pass, press};

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    /// One that is kept, named by the path.
    KeptAnswer,
    Complete(Delivery),
    CountTokens,
    Display(Picture),
    Events,
    Health,
    Metrics,
    Models,
    OpenApi,
    /// One of them, named by the path.
    Model,
    Page(Asset),
    Pair,
    PairWait,
    /// The server's own, under its path there.
    Passed(&'static str),
    Prepare,
    Press,
    Stats,
    VpsHealth,
}

const ROUTES: &[(&str, &[Method], Call)] = &[
    ("/", &[Method::GET], Call::Page(Asset::Index)),
    ("/display.png", &[Method::GET], Call::Display(Picture::Png)),
    ("/display.txt", &[Method::GET], Call::Display(Picture::Text)),
    ("/chat/completions", &[Method::POST], Call::Complete(Delivery::Asked(Dialect::Chat))),
    ("/completions", &[Method::POST], Call::Complete(Delivery::Asked(Dialect::Completions))),
    ("/detokenize", &[Method::POST], Call::Passed("/detokenize")),
    ("/embeddings", &[Method::POST], Call::Passed("/v1/embeddings")),
    ("/health", &[Method::GET], Call::Health),
    ("/infill", &[Method::POST], Call::Complete(Delivery::Asked(Dialect::Infill))),
    ("/metrics", &[Method::GET], Call::Metrics),
    ("/models", &[Method::GET], Call::Models),
    ("/openapi.json", &[Method::GET], Call::OpenApi),
    ("/models/", &[Method::GET], Call::Model),
    ("/page/app.js", &[Method::GET], Call::Page(Asset::App)),
    ("/page/draw.js", &[Method::GET], Call::Page(Asset::Draw)),
    ("/page/icon.svg", &[Method::GET], Call::Page(Asset::Icon)),
    ("/page/stream.js", &[Method::GET], Call::Page(Asset::Stream)),
    ("/page/style.css", &[Method::GET], Call::Page(Asset::Style)),
    ("/page/words.js", &[Method::GET], Call::Page(Asset::Words)),
    ("/props", &[Method::GET], Call::Passed("/props")),
    ("/tokenize", &[Method::POST], Call::Passed("/tokenize")),
    ("/v1/chat/completions", &[Method::POST], Call::Complete(Delivery::Asked(Dialect::Chat))),
    ("/v1/complete", &[Method::POST], Call::Complete(Delivery::Whole)),
    ("/v1/complete/batch", &[Method::POST], Call::Complete(Delivery::Batch)),
    ("/v1/complete/stream", &[Method::POST], Call::Complete(Delivery::Stream)),
    ("/v1/completions", &[Method::POST], Call::Complete(Delivery::Asked(Dialect::Completions))),
    ("/v1/answers/", &[Method::GET, Method::DELETE], Call::KeptAnswer),
    ("/v1/board/press", &[Method::POST], Call::Press),
    ("/v1/embeddings", &[Method::POST], Call::Passed("/v1/embeddings")),
    ("/v1/events", &[Method::GET], Call::Events),
    ("/v1/messages", &[Method::POST], Call::Complete(Delivery::Asked(Dialect::Messages))),
    ("/v1/messages/count_tokens", &[Method::POST], Call::CountTokens),
    ("/v1/models", &[Method::GET], Call::Models),
    ("/v1/models/", &[Method::GET], Call::Model),
    ("/v1/pair", &[Method::POST], Call::Pair),
    ("/v1/pair/", &[Method::GET], Call::PairWait),
    ("/v1/prepare", &[Method::POST], Call::Prepare),
    ("/v1/stats", &[Method::GET], Call::Stats),
    ("/v1/vps/health", &[Method::GET, Method::POST], Call::VpsHealth),
];

/// The call a path and method stand for.
fn find(path: &str, method: &Method) -> Result<Call, Refusal> {
    let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
    let named =
        |route: &str| route.len() > 1 && route.ends_with('/') && path.len() > route.len() && path.starts_with(route);
    let (_, methods, call) = ROUTES
        .iter()
        .find(|(route, ..)| *route == path || named(route))
        .ok_or_else(|| Refusal::NotFound { path: path.chars().take(100).collect() })?;
    if methods.contains(method) || (method == Method::HEAD && methods.contains(&Method::GET)) {
        Ok(*call)
    } else {
        Err(Refusal::MethodNotAllowed { allowed: methods[0].clone() })
    }
}

impl Call {
    /// What is shown to everybody on the network: whether the box is well, and what its own display shows. Who asks for
    /// a key has none yet.
    fn is_public(self) -> bool {
        matches!(
            self,
            Self::Display(_)
                | Self::Events
                | Self::Health
                | Self::OpenApi
                | Self::Page(_)
                | Self::Pair
                | Self::PairWait
        )
    }
}

impl Service for Gateway {
    async fn call(&self, request: Request<Incoming>, peer: Peer) -> Response<Answer> {
        let id = RequestId::from_headers(request.headers());
        let allowed = self.cors.allowed(request.headers());
        let mut response = match self.cors.preflight(&request) {
            Some(response) => response,
            None => self.answer(request, peer, id).await,
        };
        self.cors.mark(allowed, response.headers_mut());
        response.headers_mut().insert(request_id::HEADER, id.header_value());
        response
    }
}

impl Gateway {
    async fn answer(&self, request: Request<Incoming>, peer: Peer, id: RequestId) -> Response<Answer> {
        match find(request.uri().path(), request.method()) {
            Ok(Call::Complete(delivery)) => pipeline::complete(self, request, id, delivery).await,
            Ok(call) => {
                let (head, mut body) = request.into_parts();
                match answer(self, call, &head, &mut body, (peer, id)).await {
                    Ok(response) => response,
                    Err(refusal) => refuse(self, &refusal, &head, body),
                }
            }
            Err(refusal) => {
                let (head, body) = request.into_parts();
                refuse(self, &refusal, &head, body)
            }
        }
    }
}

/// Whose words an answer is expected in: also Anthropic's clients ask for `/v1/models`.
fn dialect(head: &Parts) -> Dialect {
    match Dialect::of_path(head.uri.path()) {
        Dialect::Chat if head.headers.contains_key("anthropic-version") => Dialect::Messages,
        dialect => dialect,
    }
}

fn refuse(gateway: &Gateway, refusal: &Refusal, head: &Parts, body: Incoming) -> Response<Answer> {
    cerebrum_common::serve::discard(body, &gateway.tasks);
    refusal.response_in(dialect(head))
}

/// All calls but completions.
async fn answer(
    gateway: &Gateway,
    call: Call,
    head: &Parts,
    body: &mut Incoming,
    (peer, id): (Peer, RequestId),
) -> Result<Response<Answer>, Refusal> {
    let (client, share) = match call.is_public() {
        true => ("".into(), None),
        false => {
            let client = authenticate::authenticate(&gateway.keys, &head.headers)?;
            let counts = matches!(call, Call::Passed(_) | Call::Prepare | Call::CountTokens);
            let share = if counts { gateway.gate.count(&client)? } else { None };
            (client.name, share)
        }
    };
    Ok(match call {
        Call::Display(picture) => info::display(gateway, picture),
        Call::CountTokens => count::count(gateway, &client, body).await?,
        Call::Events => events::watch(gateway, &head.headers, peer.address.ip())?,
        Call::Pair => pair::begin(gateway, head, body, peer.address.ip()).await?,
        Call::PairWait => pair::wait(gateway, &head.headers, head.uri.path()).await?,
        Call::Passed(path) => pass::on(gateway, head.method.clone(), path, body, (id, share.as_ref())).await?,
        Call::Prepare => dry_run::prepare(gateway, &client, body).await?,
        Call::Press => press::press(gateway, head, body).await?,
        Call::KeptAnswer if head.method == Method::DELETE => kept::cancel(gateway, &head.headers, head.uri.path())?,
        Call::KeptAnswer => kept::resume(gateway, &head.headers, head.uri.path()).await?,
        Call::Health => info::health(gateway),
        Call::OpenApi => info::description(),
        Call::Metrics => metrics::metrics(gateway, &head.headers),
        Call::Models => info::models(gateway).await,
        Call::Model => info::model(gateway, head.uri.path()).await?,
        Call::Page(asset) => page::file(asset),
        Call::Stats => info::stats(gateway).await,
        Call::VpsHealth => info::vps_health(gateway).await?,
        Call::Complete(_) => return Err(Refusal::NotFound { path: "completions are not reports".into() }),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn paths_and_methods_are_told_apart() {
        assert_eq!(find("/v1/complete", &Method::POST), Ok(Call::Complete(Delivery::Whole)));
        assert_eq!(find("/v1/complete/stream/", &Method::POST), Ok(Call::Complete(Delivery::Stream)));
        assert_eq!(find("/v1/vps/health", &Method::POST), Ok(Call::VpsHealth));
        assert_eq!(find("/health", &Method::HEAD), Ok(Call::Health));
        assert_eq!(find("/v1/complete", &Method::GET), Err(Refusal::MethodNotAllowed { allowed: Method::POST }));
        assert!(matches!(find("/v2", &Method::GET), Err(Refusal::NotFound { .. })));
        assert_eq!(find("/v1/models/owner/name", &Method::GET), Ok(Call::Model));
        assert_eq!(find("/v1/models/", &Method::GET), Ok(Call::Models));
    }

    #[test]
    fn the_description_has_every_path_and_method() {
        let description: serde_json::Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
        let described: BTreeSet<(String, String)> = description["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, calls)| {
                calls.as_object().unwrap().keys().map(|method| (path.clone(), method.to_uppercase()))
            })
            .collect();
        let served: BTreeSet<(String, String)> = ROUTES
            .iter()
            .flat_map(|(path, methods, _)| methods.iter().map(move |method| (path, method.to_string())))
            .map(|(path, method)| {
                let name = if path.ends_with("models/") { "{model}" } else { "{id}" };
                (
                    if path.len() > 1 && path.ends_with('/') { format!("{path}{name}") } else { (*path).to_owned() },
                    method,
                )
            })
            .collect();
        assert_eq!(described, served);
    }

    #[test]
    fn only_what_the_display_shows_and_pairing_is_public() {
        let public: Vec<_> = ROUTES.iter().filter(|(_, _, call)| call.is_public()).map(|(path, ..)| *path).collect();
        assert_eq!(
            public,
            [
                "/",
                "/display.png",
                "/display.txt",
                "/health",
                "/openapi.json",
                "/page/app.js",
                "/page/draw.js",
                "/page/icon.svg",
                "/page/stream.js",
                "/page/style.css",
                "/page/words.js",
                "/v1/events",
                "/v1/pair",
                "/v1/pair/"
            ]
        );
    }
}
