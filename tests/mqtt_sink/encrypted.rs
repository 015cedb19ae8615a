//! The same over TLS, with certificates made on the spot.

use std::path::Path;
use std::process::{Command, Stdio};

use bms_reader::sink::mqtt::{Discovery, Tls};

use crate::mosquitto::Mosquitto;
use crate::rig::Rig;

const CONNECTED: &str = "as bms-reader-rack";

#[test]
fn a_private_authority_is_trusted_when_it_is_named() {
    let broker = encrypted("");
    let ca = path(broker.folder(), "ca.pem");
    let rig = start(&broker, Tls { ca_file: Some(ca), ..Tls::default() });
    broker.wait_for_log(CONNECTED);
    rig.stop();
}

#[test]
fn an_unknown_authority_is_not_trusted_unless_everything_is() {
    let broker = encrypted("");
    let rig = start(&broker, Tls::default());
    broker.wait_for_log("unknown ca");
    assert!(!broker.log().contains(CONNECTED), "{}", broker.log());
    rig.stop();
    let rig = start(&broker, Tls { insecure: true, ..Tls::default() });
    broker.wait_for_log(CONNECTED);
    rig.stop();
}

#[test]
fn a_broker_that_wants_a_certificate_gets_ours() {
    let broker = encrypted("require_certificate true\n");
    let file = |name| path(broker.folder(), name);
    let tls = Tls {
        ca_file: Some(file("ca.pem")),
        client_files: Some((file("client.pem"), file("client.key"))),
        insecure: false,
    };
    let rig = start(&broker, tls);
    broker.wait_for_log(CONNECTED);
    rig.stop();
}

fn start(broker: &Mosquitto, tls: Tls) -> Rig {
    let mut rig = Rig::prepared(broker, Discovery::Entity);
    rig.settings.tls = Some(tls);
    rig.run()
}

/// A broker with a certificate of an authority that nobody else knows.
fn encrypted(lines: &str) -> Mosquitto {
    let mut broker = Mosquitto::prepared();
    let folder = broker.folder().to_owned();
    let key = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    openssl(&folder, &key, "-subj /CN=test-authority -days 2 -keyout ca.key -out ca.pem");
    for (name, address) in [("server", "IP:127.0.0.1"), ("client", "DNS:client")] {
        let files = format!("-subj /CN={name} -keyout {name}.key -out {name}.csr");
        let request = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        openssl(&folder, &request, &files);
        std::fs::write(folder.join("ext"), format!("subjectAltName={address}\n")).expect("a file");
        let files = format!("-in {name}.csr -out {name}.pem -extfile ext");
        let sign = ["x509", "-req", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
        openssl(&folder, &sign, &format!("-days 2 {files}"));
    }
    broker.configure(&format!(
        "allow_anonymous true\ncafile {}\ncertfile {}\nkeyfile {}\n{lines}",
        path(&folder, "ca.pem"),
        path(&folder, "server.pem"),
        path(&folder, "server.key"),
    ));
    broker.restart();
    broker
}

fn openssl(folder: &Path, verb: &[&str], rest: &str) {
    let output = Command::new("openssl")
        .args(verb)
        .args(rest.split(' '))
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("openssl is needed for this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().expect("a plain path").to_owned()
}
