//! Certificates made by openssl.

#![allow(dead_code, reason = "no test crate uses all of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::{Command, Stdio};

/// A command that makes a key.
pub const NEW_KEY: [&str; 7] =
    ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-batch"];

/// Runs openssl in this folder; the words of `rest` are separated by blanks.
pub fn openssl(folder: &Path, verb: &[&str], rest: &str) {
    let output = Command::new("openssl")
        .args(verb)
        .args(rest.split(' '))
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("openssl is needed for this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// `self.pem` and `self.key` for another name than that of the server.
pub fn self_signed(folder: &Path, constraint: &str) {
    let rest = format!(
        "-x509 -subj /CN=server -addext basicConstraints=critical,{constraint} -keyout self.key -out self.pem"
    );
    openssl(folder, &NEW_KEY, &rest);
}

pub fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().expect("a plain path").to_owned()
}
