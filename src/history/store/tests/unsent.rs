use super::*;
use crate::history::unsent::{FIRST, Record, Unsent};
use crate::model::Uptime;

fn unsent(count: u64) -> Unsent {
    let unsent = Unsent::new("influx");
    for number in 0..count {
        let text = format!("battery,id=a soc={}.5,power=1{number}.0", number % 60).into();
        let record = Record { time: Millis(NOW.0 + number), text };
        unsent.add(FIRST + number, record, Uptime(0));
    }
    unsent
}

#[test]
fn unsent_readings_survive_in_the_file() {
    let folder = Folder::new();
    let (first, other) = (unsent(500), unsent(2));
    let changes = first.due(Uptime(60_000), false).unwrap();
    let mut file = folder.file();
    let row = file.write_unsent("influx", &changes).unwrap();
    first.confirm(&changes, row);
    file.write_unsent("mqtt", &other.due(Uptime(60_000), false).unwrap()).unwrap();
    drop(file);

    let mut file = folder.file();
    let rows = file.unsent("influx");
    assert_eq!((rows.len(), rows[0].0, rows[0].1.lines().count()), (1, row, 500));
    let second = Unsent::new("influx");
    second.restore(&rows, Uptime(0));
    (0..500).for_each(|number| second.remove(FIRST - 500 + number));
    file.write_unsent("influx", &second.due(Uptime(0), false).unwrap()).unwrap();
    assert_eq!((file.unsent("influx").len(), file.unsent("mqtt").len()), (0, 1));
}

/// Of versions without what the file has today.
#[test]
fn file_of_an_earlier_version_gets_the_table_and_keeps_its_rows() {
    let folder = Folder::new();
    let rows = vec![(id("a"), minute(1, 640, SPREAD))];
    folder.file().write(Batch { rows, ..Batch::default() }, None, &[]);
    let connection = Connection::open(folder.path()).unwrap();
    connection.execute_batch("DROP TABLE unsent").unwrap();
    drop(connection);
    let mut file = folder.file();
    assert_eq!(file.unsent("influx"), []);
    let changes = unsent(3).due(Uptime(60_000), true).unwrap();
    assert_eq!(file.write_unsent("influx", &changes), Some(1));
    let rows = |connection: &Connection| {
        let count = "SELECT (SELECT count(*) FROM rows) + 10 * (SELECT count(*) FROM unsent)";
        connection.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!(rows(&Connection::open(folder.path()).unwrap()), 11);
}

#[test]
fn damaged_readings_are_left_out() {
    let folder = Folder::new();
    let mut file = folder.file();
    let changes = unsent(100).due(Uptime(60_000), true).unwrap();
    file.write_unsent("influx", &changes).unwrap();
    let connection = Connection::open(folder.path()).unwrap();
    for (length, packed) in
        [("-1", "x'00'"), ("9000000000000", "x'1061'"), ("70", "x'FFFFFF'"), ("5", "'text'")]
    {
        let insert = "INSERT INTO unsent (output, length, packed) VALUES ('influx'";
        connection.execute_batch(&format!("{insert}, {length}, {packed})")).unwrap();
    }
    let second = Unsent::new("influx");
    second.restore(&file.unsent("influx"), Uptime(0));
    assert!(second.due(Uptime(60_000), true).unwrap().add.lines().count() <= 100);
}
