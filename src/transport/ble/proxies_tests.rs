use super::*;

#[test]
fn best_signal_wins_unless_it_failed_or_the_last_one_is_nearly_as_good() {
    assert!(score(-60, false, false) > score(-70, false, false));
    assert!(score(-70, false, true) > score(-63, false, false));
    assert!(score(-71, false, true) < score(-60, false, false));
    assert!(score(-60, true, false) < score(-70, false, false));
    assert!(score(-60, true, false) > score(-80, false, false), "too far away");
    assert!(score(i16::MIN, true, false) < 0 && score(i16::MAX, false, true) > 0);
}

#[tokio::test(start_paused = true)]
async fn failure_counts_for_ten_minutes() {
    let proxies = Proxies::default();
    let address = 0xA4C1_3800_0AFF;
    let score = || proxies.history().score(LOCAL, address, -60);
    assert_eq!(score(), -60);
    proxies.note_local("A4:C1:38:00:0A:FF", false);
    assert_eq!(score(), -75);
    tokio::time::advance(FAILURE_LIFETIME - Duration::from_secs(1)).await;
    assert_eq!(score(), -75);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(score(), -60);
    proxies.note_local("A4:C1:38:00:0A:FF", false);
    proxies.note_local("A4:C1:38:00:0A:FF", true);
    assert_eq!(score(), -52);
}

#[test]
fn address_is_parsed_as_shown() {
    let address = 0xA4C1_3800_0AFF;
    assert_eq!(address_text(address), "A4:C1:38:00:0A:FF");
    assert_eq!(parse_address("a4:C1:38:00:0A:ff"), Some(address));
    for wrong in ["", "A4:C1:38:00:0A", "A4:C1:38:00:0A:FF:00", "A4:C1:38:00:0A:XX"] {
        assert_eq!(parse_address(wrong), None, "{wrong}");
    }
}

#[tokio::test]
async fn every_proxy_is_any_proxy_and_names_are_those_of_the_configuration() {
    let device =
        |host: &str| Device::new(format!("{host}:6053"), format!("esphome://{host}"), None);
    let named = |name: &str| Some(name.to_owned());
    let proxies = Proxies::new(vec![
        (named("garage"), device("10.0.0.7")),
        (named("house"), device("10.0.0.8")),
    ]);
    assert_eq!(proxies.named(ANY_PROXY).await, [0, 1]);
    assert_eq!(proxies.named("House").await, [1]);
    assert_eq!(proxies.named("10.0.0.7").await, [0]);
    assert_eq!(proxies.named("hci0").await, [0; 0]);
}
