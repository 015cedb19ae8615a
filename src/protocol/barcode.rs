//! The serial number of the controller, the argument of `tbar`.
//!
//! The help of a related console calls `tbar` "Test write Barcode", so it may store its argument. A
//! number other than the controller's own must therefore never be sent: no placeholder, no example
//! from a document, no other format.

/// A valid serial number that is not a known sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Barcode(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BarcodeError {
    /// Wrong length or characters.
    #[error("16 letters and digits")]
    Form,
    /// Copied from a document.
    #[error(
        "the serial number of your own controller; this one is a sample. The console shows yours as \
         `Module Barcode` in the reply to `info`. The battery can be read without it, too"
    )]
    Sample,
}

/// All known numbers have this length.
const LENGTH: usize = 16;

/// Numbers from the documentation of the older program and of this one.
const SAMPLES: [&str; 2] = ["PPTAP01419B15082", "ABCD1234EFGH5678"];

/// Parts of placeholders and sequences that no manufacturer assigns.
const PLACEHOLDERS: &str =
    "YOUR SERIAL BARCODE NUMBER SAMPLE EXAMPLE XXXX 12345678 ABCDEFGH 0000000000 CHANGE";

impl Barcode {
    /// Converts to capitals, as controllers print them.
    pub fn parse(text: &str) -> Result<Barcode, BarcodeError> {
        let number = text.trim().to_ascii_uppercase();
        // For a placeholder of the wrong length this is the more helpful error.
        if SAMPLES.contains(&&*number) || PLACEHOLDERS.split(' ').any(|part| number.contains(part))
        {
            return Err(BarcodeError::Sample);
        }
        if number.len() != LENGTH || !number.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(BarcodeError::Form);
        }
        Ok(Barcode(number))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_number_is_converted_to_capitals() {
        for number in ["PPTAP02218C10427", "PPTAP00000000050"] {
            assert_eq!(Barcode::parse(number).map(|barcode| barcode.0), Ok(number.to_owned()));
        }
        assert_eq!(Barcode::parse(" pptap02218c10427 ").unwrap().as_str(), "PPTAP02218C10427");
    }

    #[test]
    fn samples_and_wrong_formats_are_rejected() {
        for text in ["", "PPTAP02218C1042", "PPTAP02218C104277", "PPTAP-2218C10427"] {
            assert_eq!(Barcode::parse(text), Err(BarcodeError::Form), "{text}");
        }
        for text in [
            "PPTAP01419B15082",
            "pptap01419b15082",
            "ABCD1234EFGH5678",
            "PPTAP00000000000",
            "YOURBARCODEHERE1",
            "YOUR_BMS_SERIAL_NUMBER_HERE",
            "XXXXXXXXXXXXXXXX",
            "1234567890123456",
        ] {
            assert_eq!(Barcode::parse(text), Err(BarcodeError::Sample), "{text}");
        }
    }
}
