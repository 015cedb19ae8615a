//! Tables with a header, and fields of the form `Key : value`.
//!
//! Columns and their widths depend on the firmware, so a value is found by the name of its column.
//! Rows are not always aligned with the header: only the order of the words counts.

use crate::model::units::divide_rounded;
use crate::model::{Cell, CentiPercent, ConsoleStatus, DeciCelsius};
use crate::protocol::DecodeError;

/// Parses a whole number; a dash or an empty text is an unknown value.
pub fn number(field: &str, text: &str) -> Result<Option<i32>, DecodeError> {
    let text = text.trim();
    if matches!(text, "" | "-") {
        return Ok(None);
    }
    let not_a_number =
        |_| DecodeError::NotANumber { field: field.to_owned(), text: text.to_owned() };
    text.parse().map(Some).map_err(not_a_number)
}

/// Longest word of a console that describes a state; the longest known one has eight characters.
const MAX_WORD: usize = 32;

/// A word that describes a state. Line noise would become an alarm, so damage is an error.
pub fn word<'a>(field: &str, text: &'a str) -> Result<&'a str, DecodeError> {
    let is_plain = text.bytes().all(|byte| matches!(byte, 0x20..=0x7E)) && text.len() <= MAX_WORD;
    let shown = || text.chars().take(MAX_WORD).collect::<String>();
    let damaged = || DecodeError::Invalid(format!("{field} is `{}`, which is damaged", shown()));
    is_plain.then_some(text).ok_or_else(damaged)
}

/// Consoles print thousandths of a degree.
pub fn temperature(thousandths: i32) -> DeciCelsius {
    // The hundredth part of an `i32` always fits.
    DeciCelsius(i32::try_from(divide_rounded(thousandths.into(), 100)).unwrap_or_default())
}

#[derive(Debug, Clone)]
pub struct Table<'a> {
    header: Vec<String>,
    lines: Vec<&'a str>,
}

impl<'a> Table<'a> {
    /// The first table with a voltage and a temperature column.
    pub fn find(lines: &'a [String]) -> Result<Self, DecodeError> {
        let is_header = |line: &String| {
            let mut words = line.split_whitespace();
            words.clone().any(|word| word == "Volt") && words.any(|word| word == "Tempr")
        };
        let start = lines.iter().position(is_header).ok_or(DecodeError::Empty)?;
        let rows = lines.iter().skip(start + 1).map(String::as_str);
        let rows = rows.take_while(|line| line.starts_with(|c: char| c.is_ascii_digit()));
        Ok(Table { header: columns(&lines[start]), lines: rows.collect() })
    }

    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.lines.iter().map(|line| Row {
            header: &self.header,
            values: values(&self.header, line),
            line,
        })
    }
}

/// The second word of a two-word column name is always `State` or `Code`.
fn columns(header: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for word in header.split_whitespace() {
        match names.last_mut().filter(|_| matches!(word, "State" | "Code")) {
            Some(name) => *name = format!("{name} {word}"),
            None => names.push(word.to_owned()),
        }
    }
    names
}

/// The words of each column, as far as the line reaches. A time has two words; a charge has a
/// percentage, a number with its unit, or both.
fn values<'a>(header: &[String], line: &'a str) -> Vec<Vec<&'a str>> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_unit = |at: usize| words.get(at).is_some_and(|word| word.ends_with(['H', 'h']));
    let mut at = 0;
    let mut values = Vec::new();
    for name in header {
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

#[derive(Debug, Clone)]
pub struct Row<'a> {
    header: &'a [String],
    values: Vec<Vec<&'a str>>,
    line: &'a str,
}

impl<'a> Row<'a> {
    /// Empty for a missing column.
    pub fn words(&self, name: &str) -> &[&'a str] {
        let column = self.header.iter().position(|other| other == name);
        column.and_then(|column| self.values.get(column)).map_or(&[], Vec::as_slice)
    }

    /// The first word of the column; `None` for a dash.
    pub fn word(&self, name: &str) -> Result<Option<&'a str>, DecodeError> {
        let found = self.words(name).first().copied().filter(|word| *word != "-");
        found.map(|text| word(name, text)).transpose()
    }

    pub fn number(&self, name: &str) -> Result<Option<i32>, DecodeError> {
        self.words(name).first().map_or(Ok(None), |word| number(name, word))
    }

    /// Of a column in thousandths of a degree.
    pub fn temperature(&self, name: &str) -> Result<Option<DeciCelsius>, DecodeError> {
        Ok(self.number(name)?.map(temperature))
    }

    /// Of a column like `84%`.
    pub fn percent(&self, name: &str) -> Result<Option<CentiPercent>, DecodeError> {
        let percent = self.words(name).iter().find_map(|word| word.strip_suffix('%'));
        let percent = percent.map_or(Ok(None), |text| number(name, text))?;
        Ok(percent.map(|percent| CentiPercent(percent.saturating_mul(100))))
    }

    /// The words of the four state columns: base, voltage, current and temperature.
    pub fn states(&self, columns: [&str; 4]) -> Result<ConsoleStatus, DecodeError> {
        let [base, voltage, current, temperature] =
            columns.map(|name| self.word(name).map(|word| word.map(str::to_owned)));
        let (voltage, current, temperature) = (voltage?, current?, temperature?);
        Ok(ConsoleStatus { base: base?, voltage, current, temperature })
    }

    /// The number before this unit.
    pub fn amount(&self, name: &str, unit: &str) -> Result<Option<i32>, DecodeError> {
        match self.words(name) {
            [.., text, last] if last.eq_ignore_ascii_case(unit) => number(name, text),
            _ => Ok(None),
        }
    }

    /// The row of an empty slot. The column of the word `Absent` depends on the firmware.
    pub fn is_absent(&self) -> bool {
        self.line.split_whitespace().any(|word| word == "Absent")
    }
}

/// Collects numbered cells; a gap in the numbers is an error.
pub fn consecutive_cells(
    numbered: impl Iterator<Item = Result<(Option<i32>, Cell), DecodeError>>,
) -> Result<Vec<Cell>, DecodeError> {
    let mut cells = Vec::new();
    for result in numbered {
        let (Some(index), cell) = result? else { return Err(DecodeError::Empty) };
        if usize::try_from(index) != Ok(cells.len()) {
            let reason = format!("cell {index} does not follow its predecessor");
            return Err(DecodeError::Invalid(reason));
        }
        cells.push(cell);
    }
    if cells.is_empty() { Err(DecodeError::Empty) } else { Ok(cells) }
}

/// Splits `Key : value` at the first colon and normalises blanks. `None` for an empty value.
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
    fn values_are_found_by_column_name() {
        let lines = lines(STACK);
        let table = Table::find(&lines).unwrap();
        let rows: Vec<_> = table.rows().collect();
        assert_eq!(rows.len(), 1);
        let row = &rows[0];
        assert_eq!(row.number("Volt"), Ok(Some(402_855)));
        assert_eq!(row.number("Curr"), Ok(Some(-613)));
        assert_eq!(row.temperature("Tempr"), Ok(Some(DeciCelsius(340))));
        assert_eq!(row.percent("CoulombAH"), Ok(Some(CentiPercent(8400))));
        assert_eq!(row.amount("CoulombAH", "mAH"), Ok(Some(42_041)));
        assert_eq!(row.amount("CoulombWH", "WH"), Ok(Some(15_960)));
        assert_eq!(row.word("B.V.St"), Ok(Some("Normal")));
        assert_eq!(row.word("Err Code"), Ok(Some("0x0")));
        assert_eq!((row.word("MosTempr"), row.number("MosTempr")), (Ok(None), Ok(None)));
    }

    #[test]
    fn percentage_alone_is_not_taken_for_a_time() {
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
        assert_eq!(rows[0].percent("Coulomb"), Ok(Some(CentiPercent(9600))));
        assert_eq!(rows[0].amount("Coulomb", "mAH"), Ok(None));
        assert_eq!(rows[0].word("M.T.St"), Ok(Some("Normal")));
        assert_eq!((rows[1].number("Volt"), rows[1].word("M.T.St")), (Ok(None), Ok(None)));
        let error = rows[2].number("Volt").unwrap_err();
        assert_eq!(error.to_string(), "Volt is `49x26`, which is not a number");
    }

    #[test]
    fn damaged_word_is_an_error() {
        for text in ["Nor\u{FFFD}al", "Nor\u{7}al", "Grün", &"x".repeat(33)] {
            let error = word("B.V.St", text).unwrap_err().to_string();
            assert!(error.contains("B.V.St") && error.len() < 100, "{error}");
        }
        assert_eq!(word("B.V.St", "SysError"), Ok("SysError"));
    }

    #[test]
    fn temperature_is_rounded_to_tenths() {
        for (thousandths, tenths) in [(26_300, 263), (22_291, 223), (-50, -1), (-49, 0)] {
            assert_eq!(temperature(thousandths), DeciCelsius(tenths));
        }
    }

    #[test]
    fn field_is_split_at_the_first_colon() {
        let time = "Device Test Time    : 2021-07-10 10:27:10";
        assert_eq!(field(time), Some(("Device Test Time".into(), "2021-07-10 10:27:10")));
        assert_eq!(field("Hard  version  : V10"), Some(("Hard version".into(), "V10")));
        assert_eq!(field("Barcode   :      "), None);
        assert_eq!(field("BMU 4 Barcode"), None);
    }
}
