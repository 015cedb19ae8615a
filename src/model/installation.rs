//! How this program is installed, so that messages name what its user can change.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Installation {
    /// As an app (add-on) of Home Assistant.
    HomeAssistant,
    Container,
    /// From a shell or systemd.
    Host,
}
