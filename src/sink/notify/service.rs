//! The services that receive notifications: how their URLs are written, and what they are sent. The
//! parser, its errors and `docs/notifications.md` are made from the table.

use serde_json::{Value, json};

use super::event::{Level, Message};
use crate::did_you_mean::closest;
use crate::http_client::{Url, base64, decode};
use crate::model::Secret;

const HTTP: u16 = 80;
const HTTPS: u16 = 443;
/// In bytes.
const MAX_URL: usize = 2000;
/// Access tokens of ntfy begin with it.
const NTFY_TOKEN: &str = "tk_";
/// In bytes.
const MAX_TOPIC: usize = 64;
const NTFY_HOST: &str = "ntfy.sh";
const TELEGRAM_API: &str = "https://api.telegram.org";

#[derive(Debug)]
pub struct Service {
    pub name: &'static str,
    /// The scheme without encryption, where the service has one, and the one with TLS.
    pub schemes: (Option<&'static str>, &'static str),
    /// What follows the scheme.
    pub form: &'static str,
    pub example: &'static str,
    /// One or two sentences of Markdown.
    pub help: &'static str,
    /// Whether one message may be about several events.
    pub combines: bool,
    resolve: fn(&Url<'_>) -> Option<Endpoint>,
    body: fn(&Message<'_>, recipient: &str) -> Value,
    /// The field of a refusal that contains its reason.
    pub reason: &'static str,
    /// A token is in the place of the host.
    token_is_host: bool,
}

/// Every service, in the order of the documentation.
pub static SERVICES: &[Service] = &[
    Service {
        name: "ntfy",
        schemes: (Some("ntfy"), "ntfys"),
        form: "HOST/TOPIC",
        example: "ntfys://ntfy.sh/my-secret-topic",
        help: "`ntfys://USER:PASSWORD@HOST/TOPIC` or `ntfys://TOKEN@HOST/TOPIC` for a topic with access \
            control. `https://ntfy.sh/TOPIC` works, too.",
        combines: true,
        resolve: ntfy,
        body: ntfy_body,
        reason: "error",
        token_is_host: false,
    },
    Service {
        name: "Gotify",
        schemes: (Some("gotify"), "gotifys"),
        form: "HOST/TOKEN",
        example: "gotifys://gotify.example.org/AbCdEf123456789",
        help: "The token is that of an application in Gotify. A path before it is that of the server.",
        combines: true,
        resolve: gotify,
        body: gotify_body,
        reason: "errorDescription",
        token_is_host: false,
    },
    Service {
        name: "Telegram",
        schemes: (None, "tgram"),
        form: "BOTTOKEN/CHATID",
        example: "tgram://123456789:AbCdEfGhIjKlMnOpQrStUvWxYz/-1001234567",
        help: "The token is from @BotFather; write to the bot once, or add it to the group. \
            `?api=http://HOST:PORT` uses a Bot API server of your own.",
        combines: true,
        resolve: telegram,
        body: telegram_body,
        reason: "description",
        token_is_host: true,
    },
    Service {
        name: "webhook",
        schemes: (Some("json"), "jsons"),
        form: "HOST/PATH",
        example: "jsons://example.org/hook?key=secret",
        help: "Any URL that accepts JSON by POST, one event at a time; `http://` and `https://` mean the same. \
            `USER:PASSWORD@` before the host is sent as basic authentication.",
        combines: false,
        resolve: webhook,
        body: |message, _| message.to_json(),
        reason: "error",
        token_is_host: false,
    },
];

/// Other schemes of a webhook, without and with TLS.
const PLAIN: (&str, &str) = ("http", "https");

impl Service {
    /// As errors and the documentation show it.
    pub fn pattern(&self) -> String {
        let (_, secure) = self.schemes;
        format!("{secure}://{}", self.form)
    }

    fn has_scheme(&self, scheme: &str) -> bool {
        self.schemes.0 == Some(scheme) || self.schemes.1 == scheme
    }
}

/// Where messages for a service go.
#[derive(Debug)]
struct Endpoint {
    tls: bool,
    host: String,
    port: u16,
    path: String,
    header: Option<(&'static str, String)>,
    /// Topic or chat.
    recipient: String,
}

/// A service that is configured. Its `Debug` contains no secrets.
#[derive(Debug, Clone)]
pub struct Target {
    pub service: &'static Service,
    pub tls: bool,
    pub host: String,
    pub port: u16,
    pub path: Secret,
    /// For the authentication.
    pub header: Option<(&'static str, Secret)>,
    recipient: Secret,
    /// What a message of the server must not reveal.
    secrets: Vec<Secret>,
}

impl Target {
    /// The error follows "must be" and contains nothing of the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (_, rest) = text.split_once("://").ok_or_else(any_of_the_services)?;
        let url = Url::parse(text).filter(|_| text.len() <= MAX_URL);
        let scheme = text[..text.len() - rest.len() - 3].to_ascii_lowercase();
        let is_plain = scheme == PLAIN.0 || scheme == PLAIN.1;
        let service = match is_plain {
            true => of_plain_url(url.map_or("", |url| url.authority)),
            false => SERVICES.iter().find(|service| service.has_scheme(&scheme)),
        };
        let service = service.ok_or_else(|| unknown_scheme(&scheme))?;
        let invalid = || {
            let (pattern, name) = (service.pattern(), service.name);
            format!("{pattern} for {name}, with special characters as %XX")
        };
        let url = url.map(|url| Url { scheme: &scheme, ..url }).ok_or_else(invalid)?;
        let endpoint = (service.resolve)(&url).ok_or_else(invalid)?;
        if endpoint.tls && !cfg!(feature = "tls") {
            return Err("a URL without TLS: this program was built without it".to_owned());
        }
        let secrets = secrets(text);
        let Endpoint { tls, host, port, path, header, recipient } = endpoint;
        let header = header.map(|(name, value)| (name, Secret::new(value)));
        let [path, recipient] = [path, recipient].map(Secret::new);
        Ok(Target { service, tls, host, port, path, header, recipient, secrets })
    }

    /// Service and server, for messages.
    pub fn label(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{} at {host}:{}", self.service.name, self.port)
    }

    pub fn body(&self, message: &Message<'_>) -> String {
        (self.service.body)(message, self.recipient.expose()).to_string()
    }

    /// A text of the server, without secrets.
    pub fn redact(&self, text: &str) -> String {
        let secrets = self.secrets.iter().map(Secret::expose);
        secrets
            .fold(text.to_owned(), |text, secret| text.replace(secret, crate::model::secret::MASK))
    }
}

/// The parts of a URL that no message, report or log may contain: all but scheme and host.
pub fn secrets(text: &str) -> Vec<Secret> {
    let Some(url) = Url::parse(text) else { return vec![Secret::new(text)] };
    let scheme = url.scheme.to_ascii_lowercase();
    let service = SERVICES.iter().find(|service| service.has_scheme(&scheme));
    let login =
        url.login.into_iter().flat_map(|login| [Some(login), login.split_once(':').map(|it| it.1)]);
    let authority = service.filter(|it| it.token_is_host).map(|_| url.authority);
    let values =
        url.query.split('&').filter_map(|pair| pair.split_once('=')).map(|(_, value)| value);
    let parts = login.flatten().chain(authority).chain(url.segments()).chain(values);
    // Shorter ones occur by coincidence.
    let mut parts: Vec<String> = parts
        .flat_map(|part| [Some(part.to_owned()), decode(part)])
        .flatten()
        .filter(|part| part.len() >= 4)
        .collect();
    parts.sort_unstable_by_key(|part| std::cmp::Reverse(part.len()));
    parts.dedup();
    parts.into_iter().map(Secret::new).collect()
}

fn any_of_the_services() -> String {
    let patterns: Vec<_> = SERVICES.iter().map(Service::pattern).collect();
    format!("one of {}", patterns.join(", "))
}

/// The scheme is no secret, but the user may have left it out.
fn unknown_scheme(scheme: &str) -> String {
    let schemes = SERVICES.iter().flat_map(|it| [it.schemes.0, Some(it.schemes.1)]).flatten();
    let near = closest(scheme, schemes.chain([PLAIN.0, PLAIN.1]));
    let near = near.map(|(near, _)| format!("; did you mean {near}://?"));
    any_of_the_services() + &near.unwrap_or_default()
}

/// The service behind an `http://` or `https://` URL.
fn of_plain_url(authority: &str) -> Option<&'static Service> {
    let name = if authority.eq_ignore_ascii_case(NTFY_HOST) { "ntfy" } else { "webhook" };
    SERVICES.iter().find(|service| service.name == name)
}

/// Whether the scheme asks for TLS; they all have the form `name` and `names`.
fn server(url: &Url<'_>) -> Option<(bool, String, u16)> {
    let tls = url.scheme.ends_with('s');
    let (host, port) = url.host_and_port(if tls { HTTPS } else { HTTP })?;
    Some((tls, host, port))
}

fn basic(login: &str) -> Option<String> {
    let (user, password) = login.split_once(':')?;
    Some(format!("Basic {}", base64(&format!("{}:{}", decode(user)?, decode(password)?))))
}

fn ntfy(url: &Url<'_>) -> Option<Endpoint> {
    let (tls, host, port) = server(url)?;
    let is_topic = |text: &str| {
        text.len() <= MAX_TOPIC
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let (folder, recipient) = url.last_segment().filter(|(_, topic)| is_topic(topic))?;
    let authorization = match url.login {
        None => None,
        Some(login) => {
            let token = login.trim_start_matches(':');
            Some(match token.starts_with(NTFY_TOKEN) && !token.contains(':') {
                true => format!("Bearer {}", decode(token)?),
                false => basic(login)?,
            })
        }
    };
    let header = authorization.map(|value| ("Authorization", value));
    // JSON is accepted at the root only.
    Some(Endpoint { tls, host, port, path: format!("{folder}/"), header, recipient })
}

/// <https://docs.ntfy.sh/publish/#publish-as-json>
fn ntfy_body(message: &Message<'_>, recipient: &str) -> Value {
    let (priority, tag) = match message.level {
        Level::Info => (3, "information_source"),
        Level::Success => (3, "white_check_mark"),
        Level::Warning => (4, "warning"),
        Level::Failure => (5, "rotating_light"),
    };
    json!({"topic": recipient, "title": message.title, "message": message.text,
        "priority": priority, "tags": [tag]})
}

fn gotify(url: &Url<'_>) -> Option<Endpoint> {
    let (tls, host, port) = server(url).filter(|_| url.login.is_none())?;
    let (folder, token) = url.last_segment()?;
    let path = format!("{folder}/message");
    let header = Some(("X-Gotify-Key", token));
    Some(Endpoint { tls, host, port, path, header, recipient: String::new() })
}

/// <https://gotify.net/docs/pushmsg>. The apps make a sound from 4 and a pop-up from 8.
fn gotify_body(message: &Message<'_>, _: &str) -> Value {
    let priority = match message.level {
        Level::Info => 2,
        Level::Success => 4,
        Level::Warning => 6,
        Level::Failure => 8,
    };
    json!({"title": message.title, "message": message.text, "priority": priority})
}

fn telegram(url: &Url<'_>) -> Option<Endpoint> {
    let token = decode(url.authority)?;
    let (number, key) = token.split_once(':')?;
    let is_key = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let is_token =
        number.bytes().all(|byte| byte.is_ascii_digit()) && is_key(number) && is_key(key);
    let mut chats = url.segments().filter(|_| is_token);
    let recipient = chats.next().and_then(decode).filter(|_| chats.next().is_none())?;
    let api = url.parameter("api").unwrap_or_else(|| TELEGRAM_API.to_owned());
    let api = Url::parse(&api).filter(|api| api.scheme == PLAIN.0 || api.scheme == PLAIN.1)?;
    let (tls, host, port) = server(&api)?;
    let path = format!("{}/bot{token}/sendMessage", api.path.trim_end_matches('/'));
    Some(Endpoint { tls, host, port, path, header: None, recipient })
}

/// <https://core.telegram.org/bots/api#sendmessage>
fn telegram_body(message: &Message<'_>, recipient: &str) -> Value {
    json!({"chat_id": recipient, "text": format!("{}\n{}", message.title, message.text),
        "disable_notification": message.level == Level::Info})
}

fn webhook(url: &Url<'_>) -> Option<Endpoint> {
    let (tls, host, port) = server(url)?;
    let header = match url.login {
        Some(login) => Some(("Authorization", basic(login)?)),
        None => None,
    };
    let path = if url.path.is_empty() { "/" } else { url.path };
    let query = if url.query.is_empty() { String::new() } else { format!("?{}", url.query) };
    let path = format!("{path}{query}");
    Some(Endpoint { tls, host, port, path, header, recipient: String::new() })
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
