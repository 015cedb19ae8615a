//! The status page at `/`: plain HTML that works everywhere, also under Home Assistant's ingress
//! (every link is relative) and without scripts.

use std::fmt::{self, Write as _};

use crate::board::Board;
use crate::model::catalog::{Audience, entries};
use crate::model::{DeviceState, LinkState};

/// Everything that goes around the batteries. Colours follow the system's light or dark theme.
const HEAD: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="10">
<title>bms-reader</title>
<style>
:root { color-scheme: light dark; font: 16px/1.4 system-ui, sans-serif; }
body { margin: 1rem auto; padding: 0 1rem; max-width: 70rem; }
main { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(18rem, 1fr)); }
section { border: 1px solid color-mix(in srgb, currentColor 25%, transparent); border-radius: .6rem; padding: .8rem 1rem; }
h2 { margin: 0; font-size: 1.1rem; }
table { width: 100%; border-collapse: collapse; }
td:last-child { text-align: right; font-variant-numeric: tabular-nums; }
.bad { color: light-dark(#a40000, #ff8080); }
</style>
</head>
<body>
<h1>bms-reader</h1>
"#;

/// The page for the present state of the board.
pub(super) fn page(board: &Board) -> String {
    let mut html = HEAD.to_owned();
    let states: Vec<_> = board.devices().filter_map(|id| board.latest(id)).collect();
    if states.is_empty() {
        html.push_str(
            "<p>No battery is configured. Set <code>BMS_TYPE</code> and <code>BMS_PORT</code>, or \
             <code>DEVICES</code>; in the Home Assistant app, fill in its options. The log lists \
             the ports that were found.</p>\n",
        );
    }
    html.push_str("<main>\n");
    for state in &states {
        // Writing into a string cannot fail.
        let _ = write!(html, "{}", Card(state));
    }
    let version = env!("CARGO_PKG_VERSION");
    let _ = write!(html, "</main>\n<p><small>version {version}</small></p>\n</body>\n</html>\n");
    html
}

/// One battery.
struct Card<'a>(&'a DeviceState);

impl fmt::Display for Card<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0;
        let profile = &state.profile;
        writeln!(f, "<section>\n<h2>{}</h2>", Escaped(&profile.name))?;
        let online = state.link == LinkState::Online;
        let link = match state.link {
            LinkState::Connecting => "connecting",
            LinkState::Online => "online",
            LinkState::Offline { .. } => "offline",
        };
        let class = if online { "" } else { " class=\"bad\"" };
        writeln!(f, "<p{class}>{link}, {}</p>", Escaped(&profile.make))?;
        if let Some(fault) = state.attempt.as_ref().and_then(|attempt| attempt.fault.as_ref()) {
            let (message, hint) = (Escaped(&fault.message), Escaped(&fault.hint));
            writeln!(f, "<p class=\"bad\">{message}: {hint}</p>")?;
        }
        // Old values would look like live ones.
        if online {
            writeln!(f, "<table>")?;
            for entry in entries(state) {
                if entry.quantity.audience == Audience::User {
                    let unit = entry.quantity.kind.unit().unwrap_or_default();
                    let (name, value) = (entry.title(), entry.value.to_string());
                    let name = Escaped(&name);
                    writeln!(f, "<tr><td>{name}<td>{} {unit}", Escaped(&value))?;
                }
            }
            writeln!(f, "</table>")?;
        }
        let id = Escaped(profile.id.as_str());
        writeln!(f, "<p><a href=\"api/devices/{id}\">everything as JSON</a></p>\n</section>")
    }
}

/// A text that cannot be taken for HTML.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            c => f.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Profile;

    #[test]
    fn names_are_text_and_links_are_relative() {
        let name = "<script>alert('x')</script>".into();
        let board = Board::new([Profile { name, ..Profile::sample("b") }]);
        let page = page(&board);
        assert!(!page.contains("<script") && page.contains("&lt;script&gt;"), "{page}");
        assert!(page.contains("connecting"));
        for attribute in ["href=\"/", "src=", "http://", "https://"] {
            assert!(!page.contains(attribute), "{attribute} leaves the ingress prefix");
        }
    }

    #[test]
    fn without_a_battery_it_says_what_to_set() {
        assert!(page(&Board::new([])).contains("BMS_PORT"));
    }
}
