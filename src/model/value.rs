//! One publishable value, exact until its text is made.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::json;

use super::units::{Unit, divide_rounded};

/// The value of a topic, a metric or a JSON field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `mantissa / 10^scale`.
    Decimal {
        mantissa: i64,
        scale: u32,
    },
    Integer(i64),
    /// Published as `ON` or `OFF`.
    Switch(bool),
    Text(String),
}

impl Value {
    /// `mantissa / 10^scale`.
    pub fn decimal(mantissa: i64, scale: u32) -> Self {
        Value::Decimal { mantissa, scale }
    }

    /// Saturates at `i64::MAX`.
    pub fn integer(number: impl TryInto<i64>) -> Self {
        Value::Integer(number.try_into().unwrap_or(i64::MAX))
    }

    /// The same value with at most `decimals` decimal places.
    pub fn rounded(self, decimals: u32) -> Self {
        match self {
            Value::Decimal { mantissa, scale } if scale > decimals => {
                let mantissa = divide_rounded(mantissa, 10_i64.pow(scale - decimals));
                Value::Decimal { mantissa, scale: decimals }
            }
            other => other,
        }
    }

    /// The value as a JSON number, string or boolean.
    pub fn to_json(&self) -> serde_json::Value {
        json!(self)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Decimal { mantissa, scale } => {
                serializer.serialize_f64(quotient(*mantissa, *scale))
            }
            Value::Integer(number) => serializer.serialize_i64(*number),
            Value::Switch(on) => serializer.serialize_bool(*on),
            Value::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<T: Unit> From<T> for Value {
    fn from(quantity: T) -> Self {
        Value::decimal(quantity.to_i64(), T::SCALE)
    }
}

impl From<bool> for Value {
    fn from(on: bool) -> Self {
        Value::Switch(on)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text)
    }
}

/// Decimals look like a Python `float` (`53.02`, `64.0`), because existing templates and flows
/// compare these texts.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Decimal { mantissa, scale } => write_decimal(f, *mantissa, *scale),
            Value::Integer(number) => write!(f, "{number}"),
            Value::Switch(on) => f.write_str(if *on { "ON" } else { "OFF" }),
            Value::Text(text) => f.write_str(text),
        }
    }
}

fn write_decimal(f: &mut fmt::Formatter<'_>, mantissa: i64, scale: u32) -> fmt::Result {
    let unit = 10_u64.pow(scale);
    let (whole, rest) = (mantissa.unsigned_abs() / unit, mantissa.unsigned_abs() % unit);
    let (mut fraction, mut digits) = (rest, scale.max(1) as usize);
    while digits > 1 && fraction % 10 == 0 {
        fraction /= 10;
        digits -= 1;
    }
    let sign = if mantissa < 0 { "-" } else { "" };
    write!(f, "{sign}{whole}.{fraction:0digits$}")
}

/// Exactly the number whose text a decimal of up to 15 digits is: both operands are exact in `f64`,
/// and a division rounds to the nearest number.
fn quotient(mantissa: i64, scale: u32) -> f64 {
    mantissa as f64 / 10_u64.pow(scale) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_print_like_python_floats() {
        let cases = [
            (53_020, 3, "53.02"),
            (6400, 2, "64.0"),
            (0, 3, "0.0"),
            (17, 3, "0.017"),
            (-11_160, 3, "-11.16"),
            (-5, 1, "-0.5"),
            (250_993, 3, "250.993"),
            (7, 0, "7.0"),
        ];
        for (mantissa, scale, text) in cases {
            assert_eq!(Value::decimal(mantissa, scale).to_string(), text);
        }
    }

    #[test]
    fn rounding_is_away_from_zero_and_adds_no_digits() {
        assert_eq!(Value::decimal(-591_750, 3).rounded(1).to_string(), "-591.8");
        assert_eq!(Value::decimal(591_749, 3).rounded(1).to_string(), "591.7");
        assert_eq!(Value::decimal(5, 1).rounded(3).to_string(), "0.5");
        assert_eq!(Value::Integer(63).rounded(0).to_string(), "63");
    }

    #[test]
    fn json_number_has_the_digits_of_the_text() {
        for mantissa in (-99_999..99_999).step_by(7).chain([1_771_097_625_510, i64::from(i32::MIN)])
        {
            for scale in 0..=6 {
                let value = Value::decimal(mantissa, scale);
                assert_eq!(value.to_json().as_f64(), value.to_string().parse().ok(), "{value}");
            }
        }
    }

    #[test]
    fn json_keeps_numbers_and_booleans() {
        assert_eq!(Value::decimal(50_948, 3).to_json().to_string(), "50.948");
        assert_eq!(Value::decimal(0, 3).to_json().to_string(), "0.0");
        assert_eq!(Value::Switch(true).to_json().to_string(), "true");
    }
}
