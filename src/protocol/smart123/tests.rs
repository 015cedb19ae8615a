use super::*;

#[test]
fn redacted_login_has_no_pin() {
    let mut bytes = b"$PW1234!\rE!\rPW98".to_vec();
    redact(&mut bytes);
    assert_eq!(bytes, b"$PW0000!\rE!\rPW00");
}

#[test]
fn checksum_of_an_answer_leaves_out_separators() {
    assert_eq!(checked("3235_CD"), Some("3235"));
    assert_eq!(checked("3235_CE"), None);
    assert_eq!(checked("3235"), None);
}

#[test]
fn missing_sensor_has_no_value() {
    assert_eq!(measured("-0028"), Ok(Some(-40)));
    assert_eq!((measured("XXXX"), measured("+XXXX")), (Ok(None), Ok(None)));
    assert!(measured("0A-1").is_err() && hex("+12").is_err());
}

#[test]
fn line_after_cell_nine_shows_the_numbering() {
    let read = |indices: &[&str], count: &str| {
        let mut driver = Smart123 {
            timeout: TIMEOUT,
            pin: None,
            logged_in: false,
            numbering: None,
            received: Received::default(),
        };
        for index in indices {
            driver.decode_cell(index, count, ["2A0", "12C", "03"]).unwrap();
        }
        driver.cells().map(|cells| cells.len())
    };
    let nine = ["01", "02", "03", "04", "05", "06", "07", "08", "09"];
    assert_eq!(read(&nine, "09"), Some(9));
    assert_eq!(read(&[&nine[..], &["10", "11"]].concat(), "11"), Some(11));
    assert_eq!(read(&[&["10"][..], &nine].concat(), "10"), None);
    let sixteen = [&nine[..], &["0A", "0B", "0C", "0D", "0E", "0F", "10"]].concat();
    assert_eq!(read(&sixteen, "10"), Some(16));
}
