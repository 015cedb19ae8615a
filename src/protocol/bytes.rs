//! Checked readers and checksums shared by drivers.
