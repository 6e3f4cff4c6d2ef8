//! The paths. Adding one here is the only way to have it answered, and without [`Access::Public`] it needs a key.

use cerebrum_common::serve::Refusal;
use cerebrum_common::wire::dialect::Dialect;
use cerebrum_common::wire::held;
use http::Method;

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody who can connect.
    Public,
    /// Who has a key.
    Key,
}

/// How an inference's answer is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// As one document.
    Whole,
    /// Event by event.
    Stream,
    /// As the body says, in the words of other people's clients.
    Asked(Dialect),
}

impl Delivery {
    /// Whose words request and answer are in.
    pub fn dialect(self) -> Dialect {
        match self {
            Self::Whole | Self::Stream => Dialect::Native,
            Self::Asked(dialect) => dialect,
        }
    }
}

/// A call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Whether the server can work.
    Health,
    /// A generation.
    Inference(Delivery),
    /// The rest of a held answer, by its token.
    Held(String),
    /// Nobody wants that answer any more.
    Cancel(String),
    /// Texts to vectors.
    Embeddings,
    /// Text to tokens.
    Tokenize,
    /// Tokens to text.
    Detokenize,
    /// The models there are.
    Models,
    /// What is known about this model.
    Model(String),
    /// The tokens of this model.
    Vocabulary(String),
    /// What llama.cpp's clients want to know.
    Props,
    /// What the server is doing.
    Stats,
    /// Unload this model now.
    Unload(String),
    /// Unload all idle models.
    Cleanup,
}

/// Every path with its method; `{model}` and `{token}` stand for names.
pub const ROUTES: [(Method, &str); 22] = [
    (Method::GET, "/health"),
    (Method::POST, "/v1/inference"),
    (Method::POST, "/v1/inference/stream"),
    (Method::GET, "/v1/inference/held/{token}"),
    (Method::POST, "/v1/inference/cancel/{token}"),
    (Method::POST, "/v1/chat/completions"),
    (Method::POST, "/chat/completions"),
    (Method::POST, "/v1/completions"),
    (Method::POST, "/completions"),
    (Method::POST, "/v1/messages"),
    (Method::POST, "/infill"),
    (Method::POST, "/v1/embeddings"),
    (Method::POST, "/embeddings"),
    (Method::POST, "/tokenize"),
    (Method::POST, "/detokenize"),
    (Method::GET, "/v1/models"),
    (Method::GET, "/v1/models/{model}"),
    (Method::GET, "/v1/models/{model}/vocabulary"),
    (Method::GET, "/props"),
    (Method::GET, "/v1/stats"),
    (Method::POST, "/v1/unload/{model}"),
    (Method::POST, "/v1/cleanup"),
];

const UNLOAD: &str = "/v1/unload/";
const MODEL: &str = "/v1/models/";
const VOCABULARY: &str = "/vocabulary";

impl Route {
    /// Who may call. Whatever is not named here needs a key.
    pub fn access(&self) -> Access {
        match self {
            Self::Health => Access::Public,
            _ => Access::Key,
        }
    }

    fn at(path: &str) -> Option<(Method, Self)> {
        Some(match path {
            "/health" => (Method::GET, Self::Health),
            "/v1/inference" => (Method::POST, Self::Inference(Delivery::Whole)),
            "/v1/inference/stream" => (Method::POST, Self::Inference(Delivery::Stream)),
            "/v1/chat/completions" | "/chat/completions" => asked(Dialect::Chat),
            "/v1/completions" | "/completions" => asked(Dialect::Completions),
            "/v1/messages" => asked(Dialect::Messages),
            "/infill" => asked(Dialect::Infill),
            "/v1/embeddings" | "/embeddings" => (Method::POST, Self::Embeddings),
            "/tokenize" => (Method::POST, Self::Tokenize),
            "/detokenize" => (Method::POST, Self::Detokenize),
            "/v1/models" => (Method::GET, Self::Models),
            "/props" => (Method::GET, Self::Props),
            "/v1/stats" => (Method::GET, Self::Stats),
            "/v1/cleanup" => (Method::POST, Self::Cleanup),
            _ => Self::named(path)?,
        })
    }

    /// Paths that end with a name.
    fn named(path: &str) -> Option<(Method, Self)> {
        let behind = |start| path.strip_prefix(start).filter(|name| !name.is_empty()).map(str::to_owned);
        let held = || behind(held::PATH).map(|token| (Method::GET, Self::Held(token)));
        let cancel = || behind(held::CANCEL_PATH).map(|token| (Method::POST, Self::Cancel(token)));
        let unload = || behind(UNLOAD).map(|model| (Method::POST, Self::Unload(model)));
        let model = || {
            let name = behind(MODEL)?;
            Some((
                Method::GET,
                match name.strip_suffix(VOCABULARY) {
                    Some("") => return None,
                    Some(model) => Self::Vocabulary(model.to_owned()),
                    None => Self::Model(name),
                },
            ))
        };
        held().or_else(cancel).or_else(unload).or_else(model)
    }
}

fn asked(dialect: Dialect) -> (Method, Route) {
    (Method::POST, Route::Inference(Delivery::Asked(dialect)))
}

/// The call that a request is.
///
/// # Errors
/// [`Refusal::NotFound`], [`Refusal::MethodNotAllowed`].
pub(super) fn find(method: &Method, path: &str) -> Result<Route, Refusal> {
    match Route::at(path) {
        None => Err(Refusal::NotFound { path: path.to_owned() }),
        Some((allowed, route)) if allowed == method => Ok(route),
        Some((allowed, _)) => Err(Refusal::MethodNotAllowed { allowed }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_and_the_paths_agree_and_only_health_is_public() {
        let mut public = Vec::new();
        for (method, pattern) in ROUTES {
            let path = pattern.replace("{model}", "a-1.5b");
            let route = find(&method, &path).unwrap();
            assert!(matches!(find(&Method::DELETE, &path), Err(Refusal::MethodNotAllowed { .. })), "{path}");
            if route.access() == Access::Public {
                public.push(pattern);
            }
        }
        assert_eq!(public, ["/health"]);
        assert_eq!(find(&Method::POST, "/v1/unload/m").unwrap(), Route::Unload("m".into()));
    }

    #[test]
    fn other_paths_do_not_exist() {
        for path in ["/", "", "/v1", "/health/", "/v1/unload/", "/v1/unload", "/V1/models", "/v1/inference/"] {
            assert!(matches!(find(&Method::GET, path), Err(Refusal::NotFound { .. })), "{path}");
        }
    }
}
