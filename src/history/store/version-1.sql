-- Dump of a history file that the program with version 1 of the schema wrote.
PRAGMA application_id = 1112363890; PRAGMA user_version = 1; PRAGMA journal_mode = WAL;
BEGIN TRANSACTION;
CREATE TABLE counters (
        device TEXT PRIMARY KEY, charged INTEGER NOT NULL, discharged INTEGER NOT NULL)
        WITHOUT ROWID;
INSERT INTO "counters" VALUES('a',123456789,5);
CREATE TABLE series (
        id INTEGER PRIMARY KEY, device TEXT NOT NULL, key TEXT NOT NULL, unit TEXT NOT NULL,
        divisor INTEGER NOT NULL, UNIQUE (device, key, divisor));
INSERT INTO "series" VALUES(1,'a','soc','%',100);
INSERT INTO "series" VALUES(2,'a','cell_3_voltage','V',1000);
INSERT INTO "series" VALUES(3,'b','soc','%',100);
INSERT INTO "series" VALUES(4,'b','cell_3_voltage','V',1000);
INSERT INTO "series" VALUES(5,'a','pack_current','A',1000);
CREATE TABLE minutes (
        time INTEGER NOT NULL, series INTEGER NOT NULL REFERENCES series,
        mean INTEGER NOT NULL, low INTEGER, high INTEGER, PRIMARY KEY (time, series))
        WITHOUT ROWID;
INSERT INTO "minutes" VALUES(1771097425510,1,6500,NULL,NULL);
INSERT INTO "minutes" VALUES(1771097425510,5,-1000,-1200,-7);
INSERT INTO "minutes" VALUES(1771097505510,1,6400,NULL,NULL);
INSERT INTO "minutes" VALUES(1771097505510,2,3310,3300,3350);
INSERT INTO "minutes" VALUES(1771097505510,3,100,NULL,NULL);
INSERT INTO "minutes" VALUES(1771097505510,4,3000,NULL,NULL);
INSERT INTO "minutes" VALUES(1771097565510,1,6400,NULL,NULL);
INSERT INTO "minutes" VALUES(1771097565510,2,3310,3300,3350);
INSERT INTO "minutes" VALUES(1771097565510,3,100,NULL,NULL);
INSERT INTO "minutes" VALUES(1771097565510,4,3000,NULL,NULL);
INSERT INTO "minutes" VALUES(1771097625510,1,6400,NULL,NULL);
INSERT INTO "minutes" VALUES(1771097625510,2,3310,3300,3350);
INSERT INTO "minutes" VALUES(1771097625510,3,100,NULL,NULL);
INSERT INTO "minutes" VALUES(1771097625510,4,3000,NULL,NULL);
CREATE VIEW history AS
        SELECT datetime(time / 1000, 'unixepoch') AS time, device, key, mean * 1.0 / divisor AS mean,
            coalesce(low, mean) * 1.0 / divisor AS low, coalesce(high, mean) * 1.0 / divisor AS high,
            unit
        FROM minutes JOIN series ON series = series.id;
COMMIT;
