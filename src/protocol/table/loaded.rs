//! A profile that is ready for use.

use super::schema::Profile;
use super::{Query, Table, plan};
use crate::protocol::driver::{Driver, Options};
use crate::protocol::query::Runner;

/// Lives as long as the process.
#[derive(Debug)]
pub struct Loaded {
    pub profile: Profile,
    plan: Vec<Query>,
}

impl Loaded {
    pub fn new(profile: Profile) -> Self {
        Loaded { plan: plan(&profile), profile }
    }

    pub fn driver(&'static self, options: &Options) -> Box<dyn Driver> {
        Box::new(Runner::new(Table::new(&self.profile, &self.plan, options)))
    }
}
