use tokio_util::sync::CancellationToken;

use super::*;
use crate::model::Profile;
use crate::setup::Setup;

fn device(address: &str, rssi: i16, brand: bool) -> Found {
    Found {
        address: address.to_owned(),
        name: None,
        adapter: Some("hci0".to_owned()),
        rssi: Some(rssi),
        brand: brand.then(|| ("jbd", "JBD / Xiaoxiang".to_owned())),
        likely: false,
    }
}

#[test]
fn batteries_come_before_other_devices_and_strong_before_weak() {
    let mut found = Vec::new();
    let crowd = (0..MAX_FOUND).map(|number| device(&format!("phone{number}"), -40, false));
    merge(&mut found, crowd.collect());
    merge(&mut found, vec![device("far", -90, true), device("near", -50, true)]);
    let addresses: Vec<_> = found.iter().take(3).map(|found| found.address.as_str()).collect();
    assert_eq!(addresses, ["near", "far", "phone0"]);
    assert_eq!(found.len(), MAX_FOUND);
}

#[test]
fn name_is_kept_when_a_later_scan_misses_it() {
    let mut found = vec![Found { name: Some("Bench".into()), ..device("A", -50, true) }];
    merge(&mut found, vec![Found { rssi: None, ..device("A", -60, true) }]);
    let expected = Found { name: Some("Bench".into()), ..device("A", -50, true) };
    assert_eq!(found, [expected]);
}

fn at_port(port: &str) -> Target {
    Target { port: Some(port.to_owned()), ..Target::default() }
}

#[tokio::test]
async fn line_in_use_and_invalid_place_are_not_tested() {
    let port = Some("tcp://127.0.0.1:9".to_owned());
    let profile = Profile { port, name: "Rack".into(), ..Profile::sample("rack") };
    let (setup, task) = Setup::new();
    let stop = CancellationToken::new();
    let board = Board::new([profile]);
    let run = run(task, board, Bluetooth::default(), None, stop.clone().into());
    let running = tokio::spawn(run);
    let refusal = |port: &str| {
        let (setup, target) = (setup.clone(), at_port(port));
        async move { setup.start(Job::Test(target)).await.unwrap_err().to_string() }
    };
    let in_use = refusal("tcp://127.0.0.1:9").await;
    assert!(in_use.contains("in use by the battery Rack"), "{in_use}");
    let id = |name: &str| DeviceId::new(name).unwrap();
    let configured = setup.forget(id("rack")).await.unwrap_err().to_string();
    assert!(configured.contains("rack is configured"), "{configured}");
    let unpublished = setup.forget(id("shed")).await.unwrap_err().to_string();
    assert!(unpublished.contains("no broker"), "{unpublished}");
    let invalid = refusal("192.168.1.5").await;
    assert!(invalid.contains("tcp://192.168.1.50:8899"), "{invalid}");
    assert!(setup.state().test.is_none());
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn one_job_runs_at_a_time_and_can_be_stopped() {
    // Accepts connections and never answers, so the test lasts until it is stopped.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = format!("tcp://{}", silent.local_addr().unwrap());
    let (setup, task) = Setup::new();
    let stop = CancellationToken::new();
    let board = Board::new([Profile::sample("rack")]);
    let running = tokio::spawn(run(task, board, Bluetooth::default(), None, stop.clone().into()));
    assert_eq!(setup.start(Job::Test(at_port(&port))).await, Ok(()));
    for job in [Job::Search, Job::Test(at_port(&port))] {
        assert_eq!(setup.start(job).await, Err(Refusal::Busy));
    }
    setup.stop();
    // The requests are served in order.
    while setup.start(Job::Test(at_port(&port))).await == Err(Refusal::Busy) {}
    stop.cancel();
    running.await.unwrap();
}
