//! The number that `tbar` wants.
//!
//! The help of a relative calls `tbar` "Test write Barcode", so it may store what it is given. A
//! number that is not the controller's own must therefore never be sent: no placeholder, no example
//! of a document, nothing of another form.

/// A number that may be the controller's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Barcode(String);

/// Why a text cannot be the number of a controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BarcodeError {
    /// Another length, or other characters.
    #[error("16 letters and digits")]
    Form,
    /// A text out of a document.
    #[error(
        "the number of your own controller, and this one is a sample: the console's answer to \
         `info` shows yours as `Module Barcode`; without it the battery is read, too"
    )]
    Sample,
}

/// Characters of every number that was ever seen.
const LENGTH: usize = 16;

/// Numbers in documents that people copy from: the description of the older program, our own.
const SAMPLES: [&str; 2] = ["PPTAP01419B15082", "ABCD1234EFGH5678"];

/// Words of placeholders, and runs that no counting factory prints.
const SIGNS: [&str; 11] = [
    "YOUR",
    "SERIAL",
    "BARCODE",
    "NUMBER",
    "SAMPLE",
    "EXAMPLE",
    "XXXX",
    "12345678",
    "ABCDEFGH",
    "0000000000",
    "CHANGE",
];

impl Barcode {
    /// Takes a text that has the form and is no sample. Controllers print capitals.
    pub fn parse(text: &str) -> Result<Barcode, BarcodeError> {
        let number = text.trim().to_ascii_uppercase();
        // A placeholder of another form is a placeholder first: that tells more.
        if SAMPLES.contains(&&*number) || SIGNS.iter().any(|sign| number.contains(sign)) {
            return Err(BarcodeError::Sample);
        }
        if number.len() != LENGTH || !number.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(BarcodeError::Form);
        }
        Ok(Barcode(number))
    }

    /// The number.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_controllers_are_taken_in_capitals() {
        for number in ["PPTAP02218C10427", "PPTAP00000000050"] {
            assert_eq!(Barcode::parse(number).map(|it| it.0), Ok(number.to_owned()));
        }
        assert_eq!(Barcode::parse(" pptap02218c10427 ").unwrap().as_str(), "PPTAP02218C10427");
    }

    #[test]
    fn other_forms_and_samples_are_refused() {
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
