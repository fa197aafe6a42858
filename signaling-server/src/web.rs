//! The browser client, embedded in the program, and the headers under which it is served.

use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::uri::Authority;
use axum::response::{IntoResponse, Response};

struct Asset {
    /// Relative to `web/`, with `/` between parts.
    path: &'static str,
    /// Quoted, as in the header.
    etag: &'static str,
    content: &'static [u8],
}

static ASSETS: &[Asset] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// The page: at `/` and, whatever the code, at `/r/CODE`.
pub(crate) async fn page(headers: HeaderMap) -> Response {
    serve("index.html", &headers)
}

/// Everything else of the page.
pub(crate) async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Response {
    serve(&path, &headers)
}

fn serve(path: &str, request: &HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.path == path) else {
        return (StatusCode::NOT_FOUND, "not found\n").into_response();
    };
    // Names carry no version, so that a browser must ask; the answer is nearly always 304.
    let caching = [(header::ETAG, asset.etag), (header::CACHE_CONTROL, "no-cache")];
    let known =
        request.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).is_some_and(
            |tags| tags.split(',').any(|tag| tag.trim().trim_start_matches("W/") == asset.etag),
        );
    if known {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    let kind = [(header::CONTENT_TYPE, content_type(path))];
    (caching, kind, asset.content).into_response()
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        "wav" => "audio/wav",
        "mp3" => "audio/mpeg",
        "ogg" => "audio/ogg",
        "txt" | "md" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// Nothing inline, nothing from elsewhere, in nobody's frame.
pub(crate) fn security_headers(request: &HeaderMap) -> [(HeaderName, HeaderValue); 7] {
    // 'self' does not cover WebSockets in every browser, so they are named.
    let sockets =
        host(request).map(|host| format!(" ws://{host} wss://{host}")).unwrap_or_default();
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
         font-src 'self'; manifest-src 'self'; worker-src 'self'; \
         media-src 'self' blob: mediastream:; connect-src 'self'{sockets}; \
         frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    );
    let fixed = HeaderValue::from_static;
    [
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::try_from(policy).unwrap_or(fixed("default-src 'none'")),
        ),
        (
            HeaderName::from_static("permissions-policy"),
            fixed("camera=(self), microphone=(self), display-capture=(self), geolocation=()"),
        ),
        (header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff")),
        (header::REFERRER_POLICY, fixed("no-referrer")),
        (header::X_FRAME_OPTIONS, fixed("DENY")),
        (HeaderName::from_static("cross-origin-opener-policy"), fixed("same-origin")),
        (HeaderName::from_static("cross-origin-resource-policy"), fixed("same-origin")),
    ]
}

/// Name and port under which the client reaches this server, if they are plain.
pub(crate) fn host(request: &HeaderMap) -> Option<Authority> {
    let host = request.get(header::HOST)?.to_str().ok()?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
    if host.len() > MAX_HOST_BYTES || !host.bytes().all(plain) {
        return None;
    }
    host.parse().ok()
}

/// The longest DNS name (RFC 1035 §2.3.4), colon and port.
const MAX_HOST_BYTES: usize = 255 + 6;

/// Whether a WebSocket request may come from the page it comes from. Browsers name the page's
/// origin, programs usually none; a page of another host must not act in a visitor's name.
pub(crate) fn origin_allowed(headers: &HeaderMap, allowed: &[String]) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let (Ok(origin), Some(Ok(host))) =
        (origin.to_str(), headers.get(header::HOST).map(HeaderValue::to_str))
    else {
        return false;
    };
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
        || allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(origin: Option<&'static str>, host: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static(host));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        }
        headers
    }

    #[test]
    fn only_the_own_page_and_programs_may_open_a_websocket() {
        let own = "visavis.example.org:8443";
        assert!(origin_allowed(&headers(None, own), &[]));
        assert!(origin_allowed(&headers(Some("https://visavis.example.org:8443"), own), &[]));
        assert!(origin_allowed(&headers(Some("https://VISAVIS.example.org:8443"), own), &[]));
        for other in ["https://visavis.example.org", "https://example.com", "null", ""] {
            assert!(!origin_allowed(&headers(Some(other), own), &[]), "{other}");
        }
        let allowed = ["https://example.com".to_owned()];
        assert!(origin_allowed(&headers(Some("https://example.com"), own), &allowed));
    }

    #[test]
    fn the_policy_names_the_own_websocket_and_takes_no_strange_host() {
        let policy = |host| {
            let [(_, policy), ..] = security_headers(&headers(None, host));
            policy.to_str().unwrap_or_default().to_owned()
        };
        assert!(policy("127.0.0.1:8080").contains("connect-src 'self' ws://127.0.0.1:8080 wss:"));
        assert!(policy("a; script-src *").contains("connect-src 'self';"));
    }

    #[test]
    fn the_page_is_embedded() {
        assert!(ASSETS.iter().any(|asset| asset.path == "index.html"));
    }
}
