//! Conversations with drivers, for their tests.

use super::{Driver, Step};

/// Advances until the driver awaits a reply or the cycle is over. Returns the last request.
pub(super) fn next_request(driver: &mut dyn Driver) -> Option<Vec<u8>> {
    let mut request = None;
    loop {
        match driver.step() {
            Step::Pause(_) => driver.advance(),
            Step::Send(bytes) => {
                request = Some(bytes);
                driver.advance();
            }
            _ => return request,
        }
    }
}
