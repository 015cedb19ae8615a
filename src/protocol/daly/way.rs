//! The ways to ask a Daly board, and what is asked in each of them.

/// What `BMS_VARIANT` may say.
pub const VARIANTS: &[&str] = &["a5", "d2", "p81"];

/// A way to ask. The A5 dialect has two: boards listen to the byte that says who asks, and one
/// Bluetooth module knows only that of a wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    D2,
    P81,
    A5App,
    A5,
}

impl Dialect {
    pub(super) fn live(self) -> Query {
        match self {
            Dialect::D2 => Query::Status,
            Dialect::P81 => Query::First,
            Dialect::A5App | Dialect::A5 => Query::Totals,
        }
    }

    pub(super) fn plan(self) -> &'static [Query] {
        match self {
            Dialect::D2 => &[Query::Status, Query::Board, Query::Settings, Query::Versions],
            Dialect::P81 => &[Query::First, Query::Second, Query::About],
            Dialect::A5App | Dialect::A5 => &[
                Query::Totals,
                Query::Counts,
                Query::Cells,
                Query::Switches,
                Query::Temperatures,
                Query::Balancing,
                Query::Failures,
                Query::Rated,
            ],
        }
    }

    /// Where the state of the switches stands.
    pub(super) fn proof(self) -> Query {
        match self {
            Dialect::D2 => Query::Status,
            Dialect::P81 => Query::Second,
            Dialect::A5App | Dialect::A5 => Query::Switches,
        }
    }
}

/// The questions that are ever asked, and the one order. What sets limits, the clock or the state
/// of charge, restarts the board or reads its password is not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Query {
    Totals,
    Counts,
    Cells,
    Switches,
    Temperatures,
    Balancing,
    Failures,
    Rated,
    Status,
    Board,
    Settings,
    Versions,
    First,
    Second,
    About,
    Turn,
}
