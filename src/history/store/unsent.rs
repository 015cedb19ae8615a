//! Readings that outputs could not send yet: a row has several, as packed lines.

use rusqlite::{Connection, params};

use super::StoreError;
use crate::history::unsent::{Changes, MAX_BYTES};
use crate::lz4;

/// The rows of an output, oldest first, as far as an output takes them.
pub(super) fn load(
    connection: &Connection,
    output: &str,
) -> Result<Vec<(i64, String)>, StoreError> {
    let mut select = connection
        .prepare("SELECT id, length, packed FROM unsent WHERE output = ?1 ORDER BY id DESC")?;
    let mut rows = select.query([output])?;
    let (mut list, mut bytes) = (Vec::new(), 0_usize);
    while let Some(row) = rows.next()? {
        let length = row.get::<_, i64>(1)?.unsigned_abs() as usize;
        bytes = length.saturating_add(bytes);
        // The newest are kept. Without their text, the others are deleted with the next change.
        let length = if bytes <= 2 * MAX_BYTES { length } else { 0 };
        let lines = lz4::unpack(row.get_ref(2)?.as_blob().unwrap_or_default(), length);
        list.push((row.get(0)?, String::from_utf8(lines).unwrap_or_default()));
    }
    list.reverse();
    Ok(list)
}

/// Returns the added row.
pub(super) fn write(
    connection: &mut Connection,
    output: &str,
    changes: &Changes,
) -> Result<i64, StoreError> {
    let transaction = connection.transaction()?;
    for row in &changes.delete {
        transaction.execute("DELETE FROM unsent WHERE id = ?1", [row])?;
    }
    if !changes.add.is_empty() {
        let packed = lz4::pack(changes.add.as_bytes());
        transaction.execute(
            "INSERT INTO unsent (output, length, packed) VALUES (?1, ?2, ?3)",
            params![output, i64::try_from(changes.add.len()).unwrap_or(0), packed],
        )?;
    }
    let row = transaction.last_insert_rowid();
    transaction.commit()?;
    Ok(row)
}
