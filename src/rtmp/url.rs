//! `rtmp://host[:port]/app/key[?query]`.

use std::fmt;

/// An RTMP address in its parts. The last segment of the path is the key; what precedes it is the app.
#[derive(Clone, PartialEq, Eq)]
pub struct RtmpUrl {
    /// A name or an IP address, an IPv6 one without its brackets.
    pub host: String,
    /// The TCP port; 1935 unless told.
    pub port: u16,
    /// The app, without slashes at its ends; may be empty.
    pub app: String,
    /// The stream key, a secret.
    pub key: String,
    /// What follows the question mark, if there is one; part of what a publisher names its stream.
    pub query: Option<String>,
}

impl RtmpUrl {
    /// Takes `text` apart.
    ///
    /// # Errors
    /// If the scheme, the host or the key is missing, or the port is none.
    pub fn parse(text: &str) -> Result<Self, ParseUrlError> {
        let rest = text.strip_prefix("rtmp://").ok_or(ParseUrlError::Scheme)?;
        let (authority, path) = rest.split_once('/').ok_or(ParseUrlError::Key)?;
        let (host, port) = match authority.strip_prefix('[') {
            Some(bracketed) => {
                let (host, rest) = bracketed.split_once(']').ok_or(ParseUrlError::Host)?;
                (host, rest)
            }
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        if host.is_empty() {
            return Err(ParseUrlError::Host);
        }
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().map_err(|_| ParseUrlError::Port)?,
            None if port.is_empty() => DEFAULT_PORT,
            None => return Err(ParseUrlError::Port),
        };
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (path, None),
        };
        let path = path.trim_matches('/');
        let (app, key) = path.rsplit_once('/').unwrap_or(("", path));
        if key.is_empty() {
            return Err(ParseUrlError::Key);
        }
        let app = app.trim_end_matches('/').to_owned();
        Ok(Self { host: host.to_owned(), port, app, key: key.to_owned(), query })
    }

    /// The address of the app, as `connect` tells it: everything but the key.
    #[must_use]
    pub fn tc_url(&self) -> String {
        let bracket = self.host.contains(':');
        let (open, close) = if bracket { ("[", "]") } else { ("", "") };
        format!("rtmp://{open}{}{close}:{}/{}", self.host, self.port, self.app)
    }

    /// What a publisher calls its stream: key and query.
    #[must_use]
    pub fn stream_name(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.key),
            None => self.key.clone(),
        }
    }
}

impl fmt::Debug for RtmpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/…", self.tc_url())
    }
}

/// Why a text is no RTMP address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseUrlError {
    /// It does not begin with `rtmp://`.
    Scheme,
    /// It names no host.
    Host,
    /// The port is not a number up to 65535.
    Port,
    /// It has no stream key.
    Key,
}

impl fmt::Display for ParseUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "an rtmp address begins with rtmp://",
            Self::Host => "the rtmp address names no host",
            Self::Port => "the rtmp address has a bad port",
            Self::Key => "the rtmp address has no stream key",
        })
    }
}

impl std::error::Error for ParseUrlError {}

const DEFAULT_PORT: u16 = 1935;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_apart() {
        let cases = [
            ("rtmp://host/app/key", "host", 1935, "app", "key", None),
            ("rtmp://10.0.0.1:19350/app/key?a=b&c=/", "10.0.0.1", 19_350, "app", "key", Some("a=b&c=/")),
            ("rtmp://[::1]:7/app/inst/key", "::1", 7, "app/inst", "key", None),
            ("rtmp://[fd00::2]/live/k/", "fd00::2", 1935, "live", "k", None),
            ("rtmp://host/key", "host", 1935, "", "key", None),
        ];
        for (text, host, port, app, key, query) in cases {
            let url = RtmpUrl::parse(text).unwrap();
            assert_eq!((url.host.as_str(), url.port), (host, port), "{text}");
            assert_eq!(
                (url.app.as_str(), url.key.as_str(), url.query.as_deref()),
                (app, key, query),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_address_says_why() {
        let cases = [
            ("http://host/app/key", ParseUrlError::Scheme),
            ("rtmp:///app/key", ParseUrlError::Host),
            ("rtmp://[::1/app/key", ParseUrlError::Host),
            ("rtmp://host:x/app/key", ParseUrlError::Port),
            ("rtmp://host:70000/app/key", ParseUrlError::Port),
            ("rtmp://[::1]x/app/key", ParseUrlError::Port),
            ("rtmp://host", ParseUrlError::Key),
            ("rtmp://host/?q", ParseUrlError::Key),
        ];
        for (text, error) in cases {
            assert_eq!(RtmpUrl::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn the_key_stays_out_of_debug_and_tc_url() {
        let url = RtmpUrl::parse("rtmp://[::1]/app/secret?token=1").unwrap();
        assert_eq!(url.tc_url(), "rtmp://[::1]:1935/app");
        assert_eq!(format!("{url:?}"), "rtmp://[::1]:1935/app/…");
        assert_eq!(url.stream_name(), "secret?token=1");
    }
}
