//! Tables with a head, and fields of the form `Key : value`.
//!
//! Firmwares differ in the columns they print and in their widths, so a value is found by the name
//! above it. Rows are not aligned with the head everywhere: what counts is the order of the words.

use crate::model::units::{CentiPercent, DeciCelsius, Milliamps, Millivolts, divide_rounded};
use crate::protocol::DecodeError;

/// Reads a whole number; a dash or nothing is an unknown one.
pub fn number(field: &str, text: &str) -> Result<Option<i32>, DecodeError> {
    let text = text.trim();
    if matches!(text, "" | "-") {
        return Ok(None);
    }
    let malformed = |_| DecodeError::NotANumber { field: field.to_owned(), text: text.to_owned() };
    text.parse().map(Some).map_err(malformed)
}

/// Thousandths of a degree, as every console prints them.
pub fn temperature(thousandths: i32) -> DeciCelsius {
    // A hundredth of a number of 32 bits is one, too.
    DeciCelsius(i32::try_from(divide_rounded(thousandths.into(), 100)).unwrap_or_default())
}

/// A head and the rows below it.
#[derive(Debug, Clone)]
pub struct Table<'a> {
    head: Vec<String>,
    lines: Vec<&'a str>,
}

impl<'a> Table<'a> {
    /// The first table with volts and temperatures.
    pub fn find(lines: &'a [String]) -> Option<Self> {
        let is_head = |line: &String| {
            let mut words = line.split_whitespace();
            words.clone().any(|word| word == "Volt") && words.any(|word| word == "Tempr")
        };
        let start = lines.iter().position(is_head)?;
        let rows = lines.iter().skip(start + 1).map(String::as_str);
        let rows = rows.take_while(|line| line.starts_with(|c: char| c.is_ascii_digit()));
        Some(Table { head: columns(&lines[start]), lines: rows.collect() })
    }

    /// The rows, in order.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.lines.iter().map(|line| Row {
            head: &self.head,
            values: values(&self.head, line),
            line,
        })
    }
}

/// Names of two words have a second one that stands nowhere else.
fn columns(head: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for word in head.split_whitespace() {
        match names.last_mut().filter(|_| matches!(word, "State" | "Code")) {
            Some(name) => *name = format!("{name} {word}"),
            None => names.push(word.to_owned()),
        }
    }
    names
}

/// One entry for each column, as far as the words suffice. A time is two words; a charge is a
/// share, a number with its unit, or both.
fn values<'a>(head: &[String], line: &'a str) -> Vec<Vec<&'a str>> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_unit = |at: usize| words.get(at).is_some_and(|word| word.ends_with(['H', 'h']));
    let mut at = 0;
    let mut values = Vec::new();
    for name in head {
        let Some(first) = words.get(at) else { break };
        let length = match name.as_str() {
            "Time" if *first != "-" => 2,
            name if name.starts_with("Coulomb") && first.ends_with('%') && is_unit(at + 2) => 3,
            name if name.starts_with("Coulomb") && is_unit(at + 1) => 2,
            _ => 1,
        };
        values.push(words[at..words.len().min(at + length)].to_vec());
        at += length;
    }
    values
}

/// One row.
#[derive(Debug, Clone)]
pub struct Row<'a> {
    head: &'a [String],
    values: Vec<Vec<&'a str>>,
    line: &'a str,
}

impl<'a> Row<'a> {
    /// The words below this name; none for a column that is not there.
    pub fn words(&self, name: &str) -> &[&'a str] {
        let column = self.head.iter().position(|other| other == name);
        column.and_then(|column| self.values.get(column)).map_or(&[], Vec::as_slice)
    }

    /// The first word below this name, unless it is a dash.
    pub fn word(&self, name: &str) -> Option<&'a str> {
        self.words(name).first().copied().filter(|word| *word != "-")
    }

    /// The number below this name.
    pub fn number(&self, name: &str) -> Result<Option<i32>, DecodeError> {
        self.words(name).first().map_or(Ok(None), |word| number(name, word))
    }

    /// Millivolts below this name.
    pub fn volts(&self, name: &str) -> Result<Option<Millivolts>, DecodeError> {
        Ok(self.number(name)?.map(Millivolts))
    }

    /// Milliamperes below this name, positive while charging.
    pub fn amps(&self, name: &str) -> Result<Option<Milliamps>, DecodeError> {
        Ok(self.number(name)?.map(Milliamps))
    }

    /// Thousandths of a degree below this name.
    pub fn degrees(&self, name: &str) -> Result<Option<DeciCelsius>, DecodeError> {
        Ok(self.number(name)?.map(temperature))
    }

    /// The share (`84%`) below this name.
    pub fn share(&self, name: &str) -> Result<Option<CentiPercent>, DecodeError> {
        let share = self.words(name).iter().find_map(|word| word.strip_suffix('%'));
        let percent = share.map_or(Ok(None), |text| number(name, text))?;
        Ok(percent.map(|percent| CentiPercent(percent.saturating_mul(100))))
    }

    /// The number in front of this unit below this name.
    pub fn amount(&self, name: &str, unit: &str) -> Result<Option<i32>, DecodeError> {
        match self.words(name) {
            [.., text, last] if last.eq_ignore_ascii_case(unit) => number(name, text),
            _ => Ok(None),
        }
    }

    /// Whether the row is there only to say that nobody is. The word stands under one column or
    /// another, depending on the firmware.
    pub fn is_absent(&self) -> bool {
        self.line.split_whitespace().any(|word| word == "Absent")
    }
}

/// `Key : value` split at the first colon; blanks at either side and doubled ones within the key do
/// not matter. `None` for another line and for an empty value.
pub fn field(line: &str) -> Option<(String, &str)> {
    let (key, value) = line.split_once(':')?;
    let key = key.split_whitespace().collect::<Vec<_>>().join(" ");
    let value = value.trim();
    (!value.is_empty()).then_some((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
    }

    const STACK: &str = "Bat Volt        : 401777\n
        Volt   Curr   Tempr  Base.St  CoulombAH                CoulombWH              Time                 B.V.St   Err Code\n
        402855 -613   34000  Charge   84%          42041 mAH  83%           15960 WH 2000-01-03 23:52:40  Normal   0x0\n
        Command completed successfully";

    #[test]
    fn values_are_found_by_the_name_above_them() {
        let lines = lines(STACK);
        let table = Table::find(&lines).unwrap();
        let rows: Vec<_> = table.rows().collect();
        assert_eq!(rows.len(), 1);
        let row = &rows[0];
        assert_eq!(row.volts("Volt"), Ok(Some(Millivolts(402_855))));
        assert_eq!(row.amps("Curr"), Ok(Some(Milliamps(-613))));
        assert_eq!(row.degrees("Tempr"), Ok(Some(DeciCelsius(340))));
        assert_eq!(row.share("CoulombAH"), Ok(Some(CentiPercent(8400))));
        assert_eq!(row.amount("CoulombAH", "mAH"), Ok(Some(42_041)));
        assert_eq!(row.amount("CoulombWH", "WH"), Ok(Some(15_960)));
        assert_eq!((row.word("B.V.St"), row.word("Err Code")), (Some("Normal"), Some("0x0")));
        assert_eq!((row.word("MosTempr"), row.number("MosTempr")), (None, Ok(None)));
    }

    #[test]
    fn a_share_alone_is_not_mistaken_for_a_time() {
        let lines = lines(
            "Power Volt   Curr   Tempr  Coulomb  Time                 M.T.St\n\
             1     49726  -3037  29300  96%      2026-07-17 01:20:56  Normal\n\
             2     -      -      -      -        -                    -\n\
             3     49x26  -3037  29300  96%      2026-07-17 01:20:56  Normal\n\
             pylon>",
        );
        let table = Table::find(&lines).unwrap();
        let rows: Vec<_> = table.rows().collect();
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[0].share("Coulomb"), Ok(Some(CentiPercent(9600))));
        assert_eq!(rows[0].amount("Coulomb", "mAH"), Ok(None));
        assert_eq!(rows[0].word("M.T.St"), Some("Normal"));
        assert_eq!((rows[1].volts("Volt"), rows[1].word("M.T.St")), (Ok(None), None));
        let error = rows[2].volts("Volt").unwrap_err();
        assert_eq!(error.to_string(), "Volt is `49x26`, which is no number");
    }

    #[test]
    fn temperatures_are_rounded_to_tenths() {
        for (thousandths, tenths) in [(26_300, 263), (22_291, 223), (-50, -1), (-49, 0)] {
            assert_eq!(temperature(thousandths), DeciCelsius(tenths));
        }
    }

    #[test]
    fn fields_are_cut_at_the_first_colon() {
        let time = "Device Test Time    : 2021-07-10 10:27:10";
        assert_eq!(field(time), Some(("Device Test Time".into(), "2021-07-10 10:27:10")));
        assert_eq!(field("Hard  version  : V10"), Some(("Hard version".into(), "V10")));
        assert_eq!(field("Barcode   :      "), None);
        assert_eq!(field("BMU 4 Barcode"), None);
    }
}
